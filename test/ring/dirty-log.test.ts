// Large pieces in the dirty log: many pages are marked at a time, and none but these.

import { describe, expect, test } from "vitest";
import { loadRings } from "#dist/ring/load.js";
import * as s from "#dist/spec/ring-state.js";
import { VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from "#dist/spec/virtio-ring.js";
import { makeMemory, RingFixture } from "../helpers/ring-fixture.js";

const PAGE = 4096;
/** Guest addresses from 0 on, so that a small log has room for them. */
const SHAPE = { num: 8, guest: 0n, dataBytes: 4 << 20 };

/** A ring over 4 MiB of guest memory, and a log at `logAt` bytes behind a multiple of 8. */
function makeRing(kind: "wasm" | "ts", logAt: number, logBytes: number) {
  const f = new RingFixture(makeMemory(true, 128), SHAPE);
  const log = 7 * (1 << 20) + logAt;
  const flags = f.word("device", s.VQ_FLAGS);
  f.setWord("device", s.VQ_FLAGS, flags | s.VQ_F_LOG);
  f.setWord("device", s.VQ_LOG, log);
  f.setWord("device", s.VQ_LOG_BYTES, logBytes);
  const device = loadRings(f.memory, kind).device(f.device.vq);
  return { f, device, marked: () => pagesOf(f.bytes.subarray(log - 8, log + logBytes + 8)) };
}

/** Numbers of the set bits, the first bit of the log (8 bytes in) being 0. */
function pagesOf(bytes: Uint8Array): number[] {
  const pages: number[] = [];
  for (const [i, byte] of bytes.entries()) {
    for (let bit = 0; bit < 8; bit++) if (byte & (1 << bit)) pages.push((i - 8) * 8 + bit);
  }
  return pages;
}

describe.each(["wasm", "ts"] as const)("%s", (kind) => {
  test.each([
    [0, 0, 1000 * PAGE],
    [0, 3 * PAGE + 5, 700 * PAGE],
    [1, 0, 1000 * PAGE],
    [3, 61 * PAGE, 70 * PAGE],
    [4, 64 * PAGE - 1, 64 * PAGE + 2],
    [0, 63 * PAGE, 66 * PAGE],
  ])("a log %i behind a word, bytes from %i on, %i of them", (logAt, from, bytes) => {
    const { f, device, marked } = makeRing(kind, logAt, 256);
    f.writeDesc(0, { addr: BigInt(from), len: bytes, flags: VIRTQ_DESC_F_WRITE });
    f.offer(0);
    expect(device.getDescs(1)).toBe(1);
    device.addUsedN(1);
    const first = Math.floor(from / PAGE);
    const count = Math.floor((from + bytes - 1) / PAGE) - first + 1;
    expect(marked()).toEqual(Array.from({ length: count }, (_, i) => first + i));
    expect(f.errors("device", s.VRING_E_LOG)).toBe(0);
  });

  test("what lies beyond the log is counted, once a piece", () => {
    const { f, device, marked } = makeRing(kind, 0, 12); // 96 pages
    const flags = VIRTQ_DESC_F_WRITE;
    const long = { addr: BigInt(10 * PAGE), len: 500 * PAGE };
    f.writeDesc(0, { ...long, flags: flags | VIRTQ_DESC_F_NEXT, next: 1 });
    f.writeDesc(1, { addr: BigInt(600 * PAGE), len: PAGE, flags });
    f.offer(0);
    expect(device.getDescs(1)).toBe(1);
    device.addUsedN(1);
    expect(marked()).toEqual(Array.from({ length: 86 }, (_, i) => 10 + i));
    expect(f.errors("device", s.VRING_E_LOG)).toBe(2);
  });
});
