// Packets one way between two threads: all arrive, in their order, whole.

import { expect, test } from "vitest";
import {
  NET_PACKET_BYTES_MAX,
  NET_PIPE_BYTES_MIN,
  NetPipe,
  netPipeBytes,
} from "#dist/devices/net-pipe.js";
import { NetStages } from "#dist/devices/net-stage.js";
import { recordBytes } from "#dist/spec/net-record.js";
import { Random } from "../fuzz/random.js";
import { seedOf } from "../helpers/seed.js";

const SIZE = NET_PIPE_BYTES_MIN;

test("any packets, written and read in any turns, by a model", () => {
  const seed = seedOf("pipe");
  const random = new Random(seed);
  const start = 64;
  const buffer = new SharedArrayBuffer(start + netPipeBytes(SIZE) + 64);
  // As if it were long in use: the counts wrap at 2^32.
  new Uint32Array(buffer, start)[0] = new Uint32Array(buffer, start)[16] = 2 ** 32 - SIZE;
  const [writer, reader] = [new NetPipe(buffer, SIZE, start), new NetPipe(buffer, SIZE, start)];
  const model: { length: number; fill: number }[] = [];
  for (let step = 0; step < 20_000; step++) {
    expect(reader.count(5), `FC_SEED=${seed}, step ${step}`).toBe(Math.min(5, model.length));
    if (random.below(2) === 0) {
      const length = random.once(8) ? NET_PACKET_BYTES_MAX : 26 + random.below(3000);
      const room = writer.room;
      const at = writer.begin(length);
      if (at < 0) {
        expect(room).toBe(0);
        continue;
      }
      expect(at + length).toBeLessThanOrEqual(SIZE);
      writer.bytes.fill(step & 0xff, at, at + length);
      expect(reader.count(1)).toBe(Math.min(1, model.length)); // not before its end
      writer.end();
      model.push({ length, fill: step & 0xff });
    } else if (reader.peek()) {
      const { bytes, at, length } = reader;
      expect({ length, fill: bytes[at] }).toEqual(model.shift());
      expect(bytes[at + length - 1]).toBe(bytes[at]);
      reader.drop();
    } else expect(model).toEqual([]);
  }
  const outside = [...new Uint8Array(buffer, 0, start), ...new Uint8Array(buffer).slice(-64)];
  expect(outside.every((byte) => byte === 0)).toBe(true);
});

test("an empty pipe takes the largest packet, wherever it is", () => {
  for (let at = 0; at < SIZE; at += 4096) {
    const buffer = new SharedArrayBuffer(netPipeBytes(SIZE));
    new Uint32Array(buffer)[0] = new Uint32Array(buffer)[16] = at;
    const pipe = new NetPipe(buffer, SIZE);
    expect(pipe.begin(NET_PACKET_BYTES_MAX)).toBeGreaterThanOrEqual(8);
  }
});

/** Linear address of the stages, and their bytes. */
const STAGES = 65536;
const STAGE_BYTES = 32768;
const PLACE = { from: STAGES, to: STAGES + STAGE_BYTES, taken: STAGES + 2 * STAGE_BYTES };

/** One way between two ports of a switch: a writer, a reader, what is under way. */
class Way {
  readonly buffer = new SharedArrayBuffer(netPipeBytes(SIZE));
  readonly writer: NetPipe;
  readonly reader: NetPipe;
  /** Of each packet that was not read: its length and what it is full of. */
  readonly model: { length: number; fill: number }[] = [];

  constructor(stages: NetStages, isWriterStaged: boolean, isReaderStaged: boolean) {
    const words = new Uint32Array(this.buffer);
    words[0] = words[16] = 2 ** 32 - SIZE; // the counts wrap
    this.writer = new NetPipe(this.buffer, SIZE, 0, isWriterStaged ? stages.from : undefined);
    this.reader = new NetPipe(this.buffer, SIZE, 0, isReaderStaged ? stages.to : undefined);
  }

  write(length: number, fill: number): boolean {
    const { writer } = this;
    const at = writer.begin(length);
    if (at < 0) return false;
    writer.bytes.fill(fill, at, at + length);
    writer.end();
    this.model.push({ length, fill });
    return true;
  }

  /**
   * Writes packets as a burst that was taken. Returns how many there was room for. Where it may
   * be short, all have one length: which of them were left out is known then.
   */
  append({ taken }: NetStages, any: readonly number[], fill: number): number {
    const isRoomy = this.writer.room >= any.length;
    const lengths = any.map((length) => (isRoomy ? length : (any[0] as number)));
    let at = 8 * (fill % 3); // anywhere in the stage
    const from = at;
    for (const length of lengths) {
      taken.words[at / 4] = length;
      taken.bytes.fill(fill, at + 8, at + 8 + length);
      at += recordBytes(length);
    }
    const done = this.writer.append(taken, from, lengths.length);
    this.model.push(...lengths.slice(0, done).map((length) => ({ length, fill })));
    return done;
  }

  /** Reads one. False: there is none that was published. */
  read(where: string): boolean {
    const { reader } = this;
    const isThere = reader.count(1) === 1;
    expect(reader.peek(), where).toBe(isThere);
    if (!isThere) return false;
    const { bytes, at, length } = reader;
    expect({ length, fill: bytes[at] }, where).toEqual(this.model.shift());
    const isFull = bytes.subarray(at, at + length).every((byte) => byte === bytes[at]);
    expect(isFull, where).toBe(true);
    reader.drop();
    return true;
  }

  get words(): (number | undefined)[] {
    const words = new Uint32Array(this.buffer);
    return [words[0], words[16]];
  }
}

test("what is staged ends at the end of the pipe, also where that is the end of a packet", () => {
  const memory = new WebAssembly.Memory({ initial: 5, maximum: 5, shared: true });
  const stages = new NetStages(memory, PLACE);
  const way = new Way(stages, true, true);
  const length = 1024 - 8;
  for (let i = 0; i < (3 * SIZE) / 1024; i++) {
    expect(way.write(length, i & 0xff)).toBe(true);
    if (i % 3 !== 2) continue;
    stages.flush();
    while (way.read(`packet ${i}`)) {}
  }
  expect(way.model).toEqual([]);
});

test.each([
  [false, false],
  [true, false],
  [false, true],
  [true, true],
])("by stages (writers': %s, readers': %s) that three ways share, the same arrive", (from, to) => {
  const seed = seedOf("pipe by stages");
  const random = new Random(seed);
  const memory = new WebAssembly.Memory({ initial: 5, maximum: 5, shared: true });
  const stages = new NetStages(memory, PLACE);
  const ways = [0, 1, 2].map(() => new Way(stages, from, to));
  let fulls = 0;
  for (let step = 0; step < 20_000; step++) {
    const where = `FC_SEED=${seed}, step ${step}`;
    const way = ways[random.below(3)] as Way;
    const writes = step % 8000 < 4000 ? 2 : 1; // the pipes fill, and run dry
    const what = random.below(10);
    if (what === 0) stages.flush();
    else if (what === 1 && writes > 1) {
      const lengths = Array.from({ length: random.below(12) }, () => 26 + random.below(2000));
      if (way.append(stages, lengths, step & 0xff) < lengths.length) fulls++;
    } else if (what % 3 < writes) {
      const length = random.once(40) ? NET_PACKET_BYTES_MAX : 26 + random.below(1600);
      if (!way.write(length, step & 0xff)) fulls++;
    } else if (!way.read(where) && random.once(4)) {
      const left = way.model.length;
      way.writer.flush();
      expect(way.read(where), where).toBe(left > 0);
    }
  }
  for (const way of ways) {
    way.writer.flush();
    while (way.read(`FC_SEED=${seed}, at the end`)) {}
    expect(way.model).toEqual([]);
    const [written, read] = way.words;
    expect(read).toBe(written);
  }
  expect(fulls).toBeGreaterThan(0);
  const bytes = new Uint8Array(memory.buffer);
  const outside = [...bytes.subarray(0, STAGES), ...bytes.subarray(STAGES + 3 * STAGE_BYTES)];
  expect(outside.every((byte) => byte === 0)).toBe(true);
});
