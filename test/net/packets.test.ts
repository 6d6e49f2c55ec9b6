// Packets between chains and a place where they lie one after another: by the module, and by a
// model; what is said at `MovePackets` to the byte, hostile lengths among it.

import { expect, test } from "vitest";
import { instantiate } from "#dist/ring/load.js";
import { loadMovePackets } from "#dist/ring/packets.js";
import { RingTables } from "#dist/ring/tables.js";
import {
  CHAIN_BYTES,
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  IOV_BYTES,
  IOV_LENGTH,
  VQ_CHAINS,
  VQ_IOV,
} from "#dist/spec/ring-state.js";
import { Random } from "../fuzz/random.js";
import { seedOf } from "../helpers/seed.js";

const VQ = 1024;
const CHAINS = 2048;
const IOVS = 8192;
const STAGE = 1 << 16;
const STAGE_BYTES = 1 << 14;
const BUFFERS = 1 << 17;
const CHAIN_COUNT = 32;
const BYTES_MIN = 26;

function newMemory(): WebAssembly.Memory {
  const memory = new WebAssembly.Memory({ initial: 4, maximum: 4, shared: true });
  const view = new DataView(memory.buffer);
  view.setUint32(VQ + VQ_CHAINS, CHAINS, true);
  view.setUint32(VQ + VQ_IOV, IOVS, true);
  return memory;
}

interface Call {
  first: number;
  count: number;
  at: number;
  end: number;
  isFromGuest: boolean;
}

/** What it says at `MovePackets`. */
function model(memory: Uint8Array, { first, count, at, end, isFromGuest }: Call): number {
  const view = new DataView(memory.buffer);
  const u32 = (address: number) => view.getUint32(address, true);
  let done = 0;
  let next = at;
  for (; done < count && next < end; done++) {
    const chain = CHAINS + (first + done) * CHAIN_BYTES;
    const iov = IOVS + u32(chain + CHAIN_IOV_START) * IOV_BYTES;
    const [address, room] = [u32(iov), u32(iov + IOV_LENGTH)];
    const bytes = isFromGuest ? room : u32(next);
    const counts = [u32(chain + CHAIN_OUT_COUNT), u32(chain + CHAIN_IN_COUNT)];
    if (counts.join() !== (isFromGuest ? "1,0" : "0,1")) return done;
    if (bytes > room || bytes > end - next - 8 || bytes < BYTES_MIN) return done;
    const asks = isFromGuest && (memory[address] !== 0 || memory[address + 1] !== 0);
    if (asks) return done; // not even copied
    const [to, from] = isFromGuest ? [next + 8, address] : [address, next + 8];
    memory.copyWithin(to, from, from + bytes);
    if (memory[next + 8] !== 0 || memory[next + 9] !== 0) return done;
    view.setUint32(next, bytes, true);
    memory.fill(0, next + 8, next + 20);
    memory[next + 18] = 1; // num_buffers
    view.setUint32(chain + CHAIN_USED_BYTES, isFromGuest ? 0 : bytes, true);
    next += 8 + Math.ceil(bytes / 8) * 8;
  }
  return done;
}

/** Lengths that hostile drivers give. */
const WILD = [0, 1, 25, 26, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 9, 2 ** 32 - 8, 2 ** 32 - 1];

/** Chains of one piece, most of them; buffers that do not overlap. */
function makeChains(memory: WebAssembly.Memory, random: Random, isFromGuest: boolean): void {
  const bytes = new Uint8Array(memory.buffer);
  const tables = new RingTables(memory, VQ);
  for (let i = 0; i < CHAIN_COUNT; i++) {
    const address = BUFFERS + i * 3072 + random.below(1000);
    const length = random.once(12) ? random.pick(WILD) : BYTES_MIN + random.below(2000);
    tables.setIov(i, address, length);
    const isOdd = random.once(20);
    const [out, into] = isOdd ? [random.below(3), random.below(3)] : isFromGuest ? [1, 0] : [0, 1];
    tables.setChain(i, i, out, into);
    tables.setUsedBytes(i, 77);
    bytes.fill(i + 1, address, address + 2048);
    if (!random.once(12)) bytes.fill(0, address, address + 2);
  }
}

function makePackets(memory: WebAssembly.Memory, random: Random): void {
  const bytes = new Uint8Array(memory.buffer);
  const view = new DataView(memory.buffer);
  for (let at = STAGE; at + 8 < STAGE + STAGE_BYTES; ) {
    const length = BYTES_MIN + random.below(1600);
    view.setUint32(at, random.once(20) ? random.pick(WILD) : length, true);
    bytes.fill(random.below(256), at + 8, Math.min(at + 8 + length, STAGE + STAGE_BYTES));
    if (!random.once(15)) bytes.fill(0, at + 8, at + 10);
    at += 8 + Math.ceil(length / 8) * 8;
  }
}

test("any packets and chains, both ways, by a model", () => {
  const seed = seedOf("packets");
  const random = new Random(seed);
  const memory = newMemory();
  const move = loadMovePackets(memory);
  const bytes = new Uint8Array(memory.buffer);
  let moved = 0;
  for (let step = 0; step < 1000; step++) {
    const isFromGuest = random.below(2) === 0;
    makeChains(memory, random, isFromGuest);
    makePackets(memory, random);
    const first = random.below(CHAIN_COUNT);
    const count = random.below(CHAIN_COUNT - first + 1);
    const end = STAGE + (random.once(2) ? STAGE_BYTES : 8 * random.below(STAGE_BYTES / 8));
    const call: Call = { first, count, at: STAGE, end, isFromGuest };
    const expected = bytes.slice();
    const done = model(expected, call);
    const where = `FC_SEED=${seed}, step ${step}`;
    expect(move(VQ, first, count, STAGE, end, isFromGuest), where).toBe(done);
    expect(Buffer.compare(bytes, expected), where).toBe(0);
    moved += done;
  }
  expect(moved).toBeGreaterThan(1000);
});

test("bytes are copied within a memory, and never outside of it", () => {
  const memory = newMemory();
  const bytes = new Uint8Array(memory.buffer);
  const { copyBytes } = instantiate(memory);
  bytes.set([1, 2, 3, 4, 5], 100);
  copyBytes(102, 100, 5); // they overlap
  expect([...bytes.subarray(100, 108)]).toEqual([1, 2, 1, 2, 3, 4, 5, 0]);
  expect(() => copyBytes(bytes.length - 4, 100, 5)).toThrow(WebAssembly.RuntimeError);
});
