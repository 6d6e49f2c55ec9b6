// A driver and a device over one packed ring, and what the tests of it do again and again.

import { expect } from "vitest";
import { loadRings, type RingKind } from "#dist/ring/load.js";
import type { DeviceRing, DriverRing } from "#dist/ring/ring.js";
import { PackedFixture } from "./packed-fixture.js";
import { makeMemory, type RingShape } from "./ring-fixture.js";

/** Both sides at the first position. */
export const FIRST = 0x8000_8000;

/** One packed ring and its two sides. */
export interface Pair {
  f: PackedFixture;
  driver: DriverRing;
  device: DeviceRing;
}

/** Both sides of one implementation, begun. */
export function makePair(
  kind: RingKind,
  shape: Partial<RingShape> = {},
  memory: WebAssembly.Memory = makeMemory(true),
): Pair {
  const f = new PackedFixture(memory, shape);
  const rings = loadRings(memory, kind);
  const driver = rings.driver(f.driver.vq);
  const device = rings.device(f.device.vq);
  driver.reset();
  expect(device.start(FIRST)).toBe(0);
  return { f, driver, device };
}

/** Adds a chain for each list of writable lengths. @returns what addBufs answers. */
export function add({ f, driver }: Pair, ...chains: number[][]): number {
  let iov = 0;
  chains.forEach((lengths, i) => {
    const pieces = lengths.map((bytes, k) => ({ linear: f.data + 8 * (iov + k), bytes }));
    f.setChain(i, iov, [], pieces);
    iov += lengths.length;
  });
  return driver.addBufs(chains.length);
}

/** So many chains of one piece of 8 bytes. */
export const ones = (count: number): number[][] => Array.from({ length: count }, () => [8]);

/** Pops all, and uses each completely, in one call. @returns how many. */
export function useAll({ f, device }: Pair): number {
  const got = device.getDescs(1000);
  for (let i = 0; i < got; i++) {
    f.setRecord("device", i, { usedBytes: f.record("device", i).inBytes });
  }
  expect(device.addUsedN(Math.max(got, 0))).toBe(0);
  device.publish();
  return got;
}

/** Ids and lengths of what the driver gets. */
export function get({ f, driver }: Pair, max = 1000): [id: number, bytes: number][] {
  const got = driver.getBufs(max);
  return Array.from({ length: Math.max(got, 0) }, (_, i) => {
    const { head, usedBytes } = f.record("driver", i);
    return [head, usedBytes];
  });
}

/** Lets `steps` descriptors come and go one by one. */
export function wind(ring: Pair, steps: number): void {
  for (let i = 0; i < steps; i++) {
    add(ring, [1]);
    ring.driver.publish();
    expect(useAll(ring)).toBe(1);
    expect(get(ring)).toHaveLength(1);
  }
  ring.driver.kickNeeded();
  ring.device.callNeeded();
}
