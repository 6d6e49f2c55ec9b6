// Queues that are moved from worker to worker at random while they are in use: no request is lost,
// none is done twice, and each queue's are done in the order in which they came. FC_SEED=<number>
// replays a run's choices.

import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { Random } from "#dist/fuzz/random.js";
import { blk, Kernel } from "#dist/index.js";
import type { OpenDevice } from "#dist/loopback.js";
import { pattern } from "../helpers/blk-raw.js";
import { custom, threadCount } from "../helpers/devices.js";
import { pump } from "../helpers/pump.js";
import { IO_MODES, MODES, type Mode } from "../helpers/raw-guest.js";
import { seedOf } from "../helpers/seed.js";
import { tempFiles } from "../helpers/temp-file.js";

const SEED = seedOf("worker-moves");

const QUEUES = 4;
const WORKERS = 3;
/** Requests at a time on a queue: more than it has entries. */
const DEPTH = 11;
const MOVES_MIN = 12;
const COUNT_MIN = 30;
const COUNT_MAX = 20_000;
/** Blocks of the disk for each queue: more than are written at a time. */
const BLOCKS = 4 * DEPTH;
const FORMATS = [
  {},
  { packed: true },
  { packed: true, inOrder: true },
  { policy: "linux" as const },
] as const;
const makeFile = tempFiles();

const runner =
  (mode: Mode, device: OpenDevice<"blk" | "custom">) =>
  <T>(work: Promise<T>): Promise<T> =>
    mode.run === "inline" ? pump(device, work) : work;

/** Moves queues, so often and as long as there are requests; makes and frees one worker, too. */
class Mover {
  /** How often a queue went from one worker to another. */
  moves = 0;
  /** The load is to end. */
  isOver = false;
  readonly done: Promise<void>;

  constructor(device: OpenDevice<"blk" | "custom">, random: Random) {
    this.done = this.#run(device, random);
  }

  async #run(device: OpenDevice<"blk" | "custom">, random: Random): Promise<void> {
    const visit = random.below(MOVES_MIN);
    while (this.moves < MOVES_MIN) {
      if (this.moves === visit) await this.#visit(device, random.below(QUEUES));
      const [queue, id] = [random.below(QUEUES), random.below(WORKERS)];
      if (device.workerOf(queue) !== id) this.moves++;
      await device.attachQueue(queue, id);
      for (let turns = random.below(4); turns > 0; turns--) await nextTurn();
    }
    this.isOver = true;
  }

  /** To a worker that is made for it, and back. */
  async #visit(device: OpenDevice<"blk" | "custom">, queue: number): Promise<void> {
    const [id, back] = [await device.newWorker(), device.workerOf(queue)];
    await device.attachQueue(queue, id);
    await device.attachQueue(queue, back);
    await device.freeWorker(id);
    this.moves += 2;
  }
}

/** Requests by number on each queue, `DEPTH` at a time, until it is over; how many each had. */
async function load(
  mover: Mover,
  send: (queue: number, number: number) => Promise<void>,
): Promise<number[]> {
  const counts = new Array<number>(QUEUES).fill(0);
  const lane = async (queue: number) => {
    for (;;) {
      const number = counts[queue] as number;
      if ((mover.isOver && number >= COUNT_MIN) || number === COUNT_MAX) return;
      counts[queue] = number + 1;
      await send(queue, number);
    }
  };
  const lanes = counts.flatMap((_, queue) => Array.from({ length: DEPTH }, () => lane(queue)));
  await Promise.all(lanes);
  return counts;
}

const word = (number: number) => new Uint8Array(Uint32Array.of(number).buffer);

describe.each(MODES)("$run, $ring ring", (mode) => {
  const formats = [
    ...FORMATS.map((format) => ({ many: 0, ...format })),
    ...FORMATS.filter((format) => !("inOrder" in format)).map((format) => ({ many: 5, ...format })),
  ];

  test.each(formats)("each request once and in turn: %o", async ({ many, ...rest }) => {
    const { policy, ...format } = { policy: "strict" as const, ...rest };
    const words = new Int32Array(new SharedArrayBuffer((2 + COUNT_MAX) * QUEUES * 4));
    const threads = threadCount();
    const process = new Kernel().spawn({ memoryBytes: 4 << 20 });
    const spec = custom("numbered", { words: words.buffer, queues: QUEUES, many });
    const device = await process.open(spec, { ...mode, policy, workers: WORKERS });
    const run = runner(mode, device);
    const notificationData = policy === "strict";
    const driver = await device.driver({ notificationData, queueSize: 8, ...format });
    const mover = new Mover(device, new Random(SEED));
    const loaded = load(mover, async (queue, number) => {
      expect(await driver.request(queue, word(number), 4)).toEqual(word(number));
    });
    const [counts] = await run(Promise.all([loaded, mover.done]));
    const turns = counts.flatMap((count) => [count, 0]);
    expect([[...words].slice(0, 2 * QUEUES), SEED]).toEqual([turns, SEED]);
    for (const [queue, count] of counts.entries()) {
      const times = Array.from({ length: COUNT_MAX }, (_, i) => words[(2 + i) * QUEUES + queue]);
      const once = times.map((_, number) => (number < count ? 1 : 0));
      expect(times).toEqual(once);
    }
    expect(device.errorCounts()).toEqual({});
    const total = counts.reduce((sum, count) => sum + count);
    expect(device.dev.worker.counters.total().requests).toBe(total);
    await process.exit();
    expect([threadCount(), process.task.mm]).toEqual([threads, null]);
  });
});

describe.each(IO_MODES)("a disk, $run, $ring ring, io $io", ({ io, ...mode }) => {
  const formats = FORMATS.filter((format) => io === "inline" || !("inOrder" in format));

  test.each(formats)("what is written is read back: %o", async (rest) => {
    const { policy, ...format } = { policy: "strict" as const, ...rest };
    const process = new Kernel().spawn({ memoryBytes: 16 << 20 });
    const spec = blk({ file: makeFile(QUEUES * BLOCKS * 4096), queues: QUEUES, io });
    const disk = await process.open(spec, { ...mode, policy, workers: WORKERS });
    const run = runner(mode, disk);
    const drive = await disk.driver({ queueSize: 16, ...format });
    const mover = new Mover(disk, new Random(SEED));
    const free = Array.from({ length: QUEUES * BLOCKS }, (_, block) => block);
    const loaded = load(mover, async (queue, number) => {
      const block = free.shift() as number; // none is written twice at a time
      const at = block * 4096;
      const bytes = pattern(4096, number * QUEUES + queue);
      await drive.write(at, bytes);
      if (number % 16 === 0) await drive.flush();
      expect(Buffer.compare(await drive.read(at, 4096), bytes)).toBe(0);
      free.push(block);
    });
    await run(Promise.all([loaded, mover.done]));
    expect(disk.errorCounts()).toEqual({});
    await process.exit();
  });
});

test("one of three is killed under load: the other two's queues lose nothing", async () => {
  const process = new Kernel().spawn({ memoryBytes: 4 << 20 });
  const count = 2000;
  const words = new Int32Array(new SharedArrayBuffer((2 + count) * 3 * 4));
  const spec = custom("numbered", { words: words.buffer, queues: 3 });
  const device = await process.open(spec, { workers: 3 });
  const driver = await device.driver();
  const ends = Array.from({ length: 3 }, async (_, queue) => {
    for (let number = 0; number < count; number++) {
      await driver.request(queue, word(number), 4);
      if (queue === 1 && number === 100) {
        void device.workerTasks.get(1)?.thread?.terminate(new Error("killed"));
      }
    }
  });
  const [first, killed, third] = await Promise.allSettled(ends);
  expect([first?.status, third?.status]).toEqual(["fulfilled", "fulfilled"]);
  expect(killed).toMatchObject({ status: "rejected", reason: { code: "ENODEV" } });
  expect([...words].slice(0, 6)).toEqual([count, 0, expect.any(Number), 0, count, 0]);
  await device.attachQueue(0, 2); // moves go on
  await process.exit();
});
