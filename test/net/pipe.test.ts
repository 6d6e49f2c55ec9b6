// Packets one way between two threads: all arrive, in their order, whole.

import { expect, test } from "vitest";
import {
  NET_PACKET_BYTES_MAX,
  NET_PIPE_BYTES_MIN,
  NetPipe,
  netPipeBytes,
} from "#dist/devices/net-pipe.js";
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
