// A driver's and a device's half of one ring, by the same implementation, with all that they do to
// memory written down. The bytes are looked at by hand: of a split ring here, of a packed one in
// packed-peers.ts.

import type { RingKind } from "#dist/ring/load.js";
import type { DeviceRing, DriverRing } from "#dist/ring/ring.js";
import {
  VQ_AVAIL_NEXT,
  VQ_AVAIL_PUBLISHED,
  VQ_F_PACKED,
  VQ_FLAGS,
  VQ_KICKED,
  VQ_LAST_USED,
} from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_USED_ELEM_BYTES,
} from "#dist/spec/virtio-ring.js";
import type { RawDesc } from "./raw-ring.js";
import { recordRings, type Trace } from "./recorded-ring.js";
import { makeMemory, type Piece, RingFixture, type RingShape } from "./ring-fixture.js";

/** Both implementations. */
export const KINDS = ["wasm", "ts"] as const;

/** Where a packed ring begins: both positions are index 0 with wrap counter 1. */
const PACKED_START = 0x8000_8000;

/** The two halves, and their memory. */
export interface Pair {
  f: RingFixture;
  driver: DriverRing;
  device: DeviceRing;
  trace: Trace;
}

/** A ring that begins; `flags` are more VQ_F_… bits than the shape has. */
export function makePair(kind: RingKind, shape: Partial<RingShape> = {}, flags = 0): Pair {
  const memory = makeMemory(true);
  const f = new RingFixture(memory, shape);
  for (const side of ["driver", "device"] as const) {
    f.setWord(side, VQ_FLAGS, f.word(side, VQ_FLAGS) | flags);
  }
  const { rings, trace } = recordRings(memory, kind);
  const driver = rings.driver(f.driver.vq);
  const device = rings.device(f.device.vq);
  driver.reset();
  device.start(flags & VQ_F_PACKED ? PACKED_START : 0);
  trace.clear();
  return { f, driver, device, trace };
}

/** Begins both sides at index `start`. */
export function wind({ f, device, trace }: Pair, start: number): void {
  const words = [VQ_AVAIL_NEXT, VQ_AVAIL_PUBLISHED, VQ_KICKED, VQ_LAST_USED];
  for (const word of words) f.setWord("driver", word, start);
  f.availIdx = f.usedIdx = start;
  device.start(start);
  trace.clear();
}

/** Pieces of `bytes` bytes each, one after the other from the data area's byte `offset` on. */
export function pieces(f: RingFixture, sizes: readonly number[], offset = 0): Piece[] {
  let linear = f.data + offset;
  return sizes.map((bytes) => {
    const piece = { linear, bytes };
    linear += bytes;
    return piece;
  });
}

/** Adds and publishes `count` chains of one writable piece of 8 bytes. */
export function offer(pair: Pair, count: number): void {
  const { f, driver } = pair;
  for (let i = 0; i < count; i++) f.setChain(i, i, [], pieces(f, [8], 8 * i));
  const added = driver.addBufs(count);
  if (added !== count) throw new Error(`added ${added} of ${count}`);
  driver.publish();
}

/** Offers `count` chains, and has them used, with 1 byte each, and published. */
export function use(pair: Pair, count: number): void {
  const { f, device } = pair;
  offer(pair, count);
  const got = device.getDescs(count);
  if (got !== count) throw new Error(`got ${got} of ${count}`);
  for (let i = 0; i < count; i++) f.setRecord("device", i, { usedBytes: 1 });
  device.addUsedN(count);
  device.publish();
}

/** Linear address of element `slot` of the used ring. */
export function usedElement(f: RingFixture, slot: number): number {
  return f.used + VIRTQ_RING_ELEMENTS + slot * VIRTQ_USED_ELEM_BYTES;
}

/** A descriptor where it lies. */
export interface Placed extends Required<RawDesc> {
  /** Its index, in the ring or in its table. */
  index: number;
  isInTable: boolean;
}

/** Follows a chain as a device would that trusts it; throws when it does not end. */
export function follow(f: RingFixture, head: number): Placed[] {
  const found: Placed[] = [];
  let table = f.desc;
  let isInTable = false;
  for (let index = head; found.length <= 2 * f.num + 64; ) {
    const desc = f.readDescAt(table + index * VIRTQ_DESC_BYTES);
    found.push({ ...desc, index, isInTable });
    if (desc.flags & VIRTQ_DESC_F_INDIRECT && !isInTable) {
      table = f.desc + Number(desc.addr - f.shape.guest);
      isInTable = true;
      index = 0;
    } else if (desc.flags & VIRTQ_DESC_F_NEXT) index = desc.next;
    else return found;
  }
  throw new Error(`the chain at ${head} does not end`);
}
