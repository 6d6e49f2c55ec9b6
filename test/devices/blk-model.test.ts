// A disk against a plain Buffer: lanes of random requests at the same time, each lane in a part of
// the disk that is its own (the order among requests in flight is the device's business). In the
// end the file holds what the model says. FC_SEED=<number> replays a run.

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { pattern } from "../helpers/blk-raw.js";
import { type OpenBlk, openBlk } from "../helpers/devices.js";
import { IO_MODES } from "../helpers/raw-guest.js";
import { seedOf } from "../helpers/seed.js";
import { tempFiles } from "../helpers/temp-file.js";

const SEED = seedOf("blk-model");

const LANES_MAX = 16;
const LANE_BYTES = 128 * 512;
const makeFile = tempFiles();

const range = fc.record({ sector: fc.nat(127), sectors: fc.integer({ min: 1, max: 40 }) });
const step = fc.record({
  name: fc.constantFrom("write", "writeFrom", "read", "readInto", "zeroes", "discard", "flush"),
  range,
  seed: fc.nat(255),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;
const lanes = fc.array(fc.array(step, { maxLength: 12 }), { minLength: 1, maxLength: LANES_MAX });

/** What must hold after each request of a lane; `model` is the whole disk. */
async function apply({ drive }: OpenBlk, model: Buffer, lane: number, now: Step): Promise<void> {
  const at = lane * LANE_BYTES + now.range.sector * 512;
  const bytes = Math.min(now.range.sectors * 512, (lane + 1) * LANE_BYTES - at);
  const part = model.subarray(at, at + bytes);
  switch (now.name) {
    case "write":
      await drive.write(at, pattern(bytes, now.seed));
      part.set(pattern(bytes, now.seed));
      return;
    case "writeFrom": {
      using buffer = drive.alloc(bytes + 512);
      buffer.bytes.set(pattern(bytes, now.seed));
      await drive.writeFrom(BigInt(at), buffer, bytes);
      part.set(pattern(bytes, now.seed));
      return;
    }
    case "read":
      expect(part.equals(await drive.read(at, bytes))).toBe(true);
      return;
    case "readInto": {
      using buffer = drive.alloc(bytes);
      await drive.readInto(at, buffer);
      expect(part.equals(buffer.bytes.slice())).toBe(true);
      return;
    }
    case "zeroes":
      await drive.writeZeroes(at, bytes, { unmap: now.seed % 2 === 0 });
      part.fill(0);
      return;
    case "discard":
      await drive.discard(at, bytes);
      part.set(await drive.read(at, bytes)); // undefined, but one thing from then on
      return;
    case "flush":
      await drive.flush();
  }
}

describe.each(IO_MODES)("$run, $ring ring, io $io", ({ io, ...mode }) => {
  const file = makeFile(LANES_MAX * LANE_BYTES);
  const model = Buffer.alloc(LANES_MAX * LANE_BYTES);
  let disk: OpenBlk;
  beforeAll(async () => {
    disk = await openBlk({ file, queues: 2, queueSize: 16, io }, mode);
  });
  afterAll(() => disk[Symbol.asyncDispose]());

  test("any requests, any number at a time: the file holds what the model says", async () => {
    const freeBytes = disk.disk.dev.sharedMemory.guest.freeBytes;
    const run = async (program: readonly (readonly Step[])[]) => {
      const work = program.map(async (steps, lane) => {
        for (const now of steps) await apply(disk, model, lane, now);
      });
      await disk.run(Promise.all(work));
      expect(model.equals(readFileSync(file))).toBe(true);
      expect(disk.disk.dev.sharedMemory.guest.freeBytes).toBe(freeBytes);
    };
    await fc.assert(fc.asyncProperty(lanes, run), { numRuns: 40, seed: SEED });
    expect(disk.disk.errorCounts()).toEqual({});
    expect(disk.drive.errorCounts()).toEqual([{}, {}]);
  });
});
