// What one call may read, however malformed the lists are: VQ_WALK_MAX counts the entries of tables
// in which something is wrong, too.

import { expect, test } from "vitest";
import { loadRings } from "#dist/ring/load.js";
import { VQ_WALK_MAX } from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_WRITE,
} from "#dist/spec/virtio-ring.js";
import { makeMemory, RingFixture } from "../helpers/ring-fixture.js";

const NUM = 64;
const ENTRIES = 1024;

/** A ring whose lists all name one table, the last entry of which is wrong in this way. */
function makeRing(kind: "wasm" | "ts", wrong: "order" | "address") {
  const shape = { packed: true, indirect: true, num: NUM, iovCapacity: ENTRIES, burst: 128 };
  const f = new RingFixture(makeMemory(true, 128), { ...shape, dataBytes: 1 << 20 });
  const write = (at: number, addr: bigint, len: number, id: number, flags: number) => {
    f.view.setBigUint64(at, addr, true);
    f.view.setUint32(at + 8, len, true);
    f.view.setUint16(at + 12, id, true);
    f.view.setUint16(at + 14, flags, true);
  };
  const data = f.guestOf(f.data);
  for (let i = 0; i < ENTRIES; i++) {
    const isWrong = i === ENTRIES - 1;
    const addr = isWrong && wrong === "address" ? 1n : data;
    const flags = isWrong && wrong === "order" ? 0 : VIRTQ_DESC_F_WRITE;
    write(f.data + i * VIRTQ_DESC_BYTES, addr, 1, 0, flags);
  }
  for (let i = 0; i < NUM; i++) {
    const flags = VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_AVAIL;
    write(f.desc + i * VIRTQ_DESC_BYTES, data, ENTRIES * VIRTQ_DESC_BYTES, i, flags);
  }
  const device = loadRings(f.memory, kind).device(f.device.vq);
  expect(device.start(0x8000_8000)).toBe(0);
  return device;
}

test.each([
  ["wasm", "order"],
  ["wasm", "address"],
  ["ts", "order"],
  ["ts", "address"],
] as const)("%s: long tables, wrong at the end by %s", (kind, wrong) => {
  const device = makeRing(kind, wrong);
  const calls: number[] = [];
  for (let left = device.availLen(); left > 0; ) {
    device.getDescs(128);
    calls.push(left - device.availLen());
    left = device.availLen();
  }
  const most = Math.ceil(VQ_WALK_MAX / ENTRIES);
  expect(calls.reduce((sum, lists) => sum + lists)).toBe(NUM);
  expect(Math.max(...calls)).toBeLessThanOrEqual(most);
});
