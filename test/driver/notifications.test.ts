// No wake-up is lost. The driver here sleeps without a time limit and the worker does too: a call
// or a kick that is missing hangs the test. virtio 1.3, 2.7.7 Used Buffer Notification Suppression,
// 2.7.10 Available Buffer Notification Suppression.

import { describe, expect, test } from "vitest";
import { BlkDriver } from "#dist/driver/blk.js";
import { blk, Kernel } from "#dist/index.js";
import { TASK_INTERRUPTIBLE } from "#dist/spec/sched.js";
import { VIRTIO_F_EVENT_IDX } from "#dist/spec/virtio-config.js";
import { VhostDev } from "#dist/vhost/dev.js";
import { custom, until } from "../helpers/devices.js";
import { TestTransport } from "../helpers/test-transport.js";

interface Shape {
  ring: "wasm" | "ts";
  poll: number;
  eventIdx: boolean;
  depth: number;
  queues: number;
}

async function open({ ring, poll, eventIdx, depth, queues }: Shape) {
  const kernel = new Kernel();
  const process = kernel.spawn({ memoryBytes: 4 << 20 });
  const dev = new VhostDev(kernel.model, { ring, pollMicroseconds: poll });
  dev.setOwner(process.task);
  await dev.setBackend(blk({ nullBytes: 1 << 20, queues, queueSize: 64 }));
  const transport = new TestTransport(dev, ring);
  const withoutFeatures = eventIdx ? [] : [VIRTIO_F_EVENT_IDX];
  const drive = await BlkDriver.probe(transport, {
    withoutFeatures,
    queueSize: depth > 8 ? 64 : 4,
  });
  return { drive, transport, dev, [Symbol.asyncDispose]: () => dev.close() };
}

/** Sends `count` reads, `depth` at a time, and gives how many were answered. */
async function readMany(drive: BlkDriver, count: number, depth: number): Promise<number> {
  let sent = 0;
  let done = 0;
  using buffer = drive.alloc(512);
  const lane = async () => {
    while (sent < count) {
      sent++;
      await drive.readInto(0, buffer);
      done++;
    }
  };
  await Promise.all(Array.from({ length: depth }, lane));
  return done;
}

const shapes: Shape[] = [];
for (const eventIdx of [true, false]) {
  for (const poll of [0, 1_000_000]) {
    for (const depth of [1, 64]) shapes.push({ ring: "wasm", poll, eventIdx, depth, queues: 1 });
  }
  shapes.push({ ring: "ts", poll: 0, eventIdx, depth: 1, queues: 1 });
  shapes.push({ ring: "wasm", poll: 0, eventIdx, depth: 200, queues: 4 });
}

const COUNT = 5000;
const NAME = "$ring ring, poll $poll µs, EVENT_IDX $eventIdx, depth $depth, $queues queue(s)";

describe.each(shapes)(NAME, (shape) => {
  test("every request is answered, and no more kicks are sent than requests", async () => {
    await using disk = await open(shape);
    expect(await readMany(disk.drive, COUNT, shape.depth)).toBe(COUNT);
    expect(disk.transport.kicks).toBeLessThanOrEqual(COUNT);
    expect(disk.dev.errorCounts()).toEqual({});
    expect(disk.drive.errorCounts()).toEqual(Array(shape.queues).fill({}));
  });
});

test("the worker sleeps between requests that come one by one, and wakes for each", async () => {
  const shape: Shape = { ring: "wasm", poll: 0, eventIdx: true, depth: 1, queues: 1 };
  await using disk = await open(shape);
  using buffer = disk.drive.alloc(512);
  const { task } = disk.dev.worker.task;
  for (let i = 0; i < 50; i++) {
    while (task.state !== 1) await new Promise(setImmediate); // TASK_INTERRUPTIBLE
    await disk.drive.readInto(0, buffer);
  }
  // The last look before the sleep may find a request without a kick: not each one needs it.
  expect(disk.transport.kicks).toBeGreaterThanOrEqual(25);
});

test("the driver sleeps while the device takes its time, and is called", async () => {
  const shape: Shape = { ring: "wasm", poll: 0, eventIdx: true, depth: 1, queues: 1 };
  await using disk = await open(shape);
  using buffer = disk.drive.alloc(512);
  let count = 0;
  while (disk.transport.sleeps < 10) {
    await disk.drive.readInto(0, buffer);
    if (++count > 100_000) expect.unreachable("it never sleeps");
  }
});

test("2.7.13.3: the indices go past 2^16 and nothing is lost", async () => {
  const shape: Shape = { ring: "wasm", poll: 50, eventIdx: true, depth: 64, queues: 1 };
  await using disk = await open(shape);
  expect(await readMany(disk.drive, 70_000, 64)).toBe(70_000);
});

// The event word stood where the device had popped to. Entries that it had left in the ring lay
// between that and the new one, so the driver saw no reason to kick.
test.each([[], [VIRTIO_F_EVENT_IDX]])(
  "a worker that sleeps over entries left in the ring is kicked for the next; without %j",
  async (...withoutFeatures) => {
    const words = new Int32Array(new SharedArrayBuffer(8));
    await using vmm = new Kernel().spawn();
    const spec = custom("waits", { words: words.buffer });
    await using device = await vmm.open(spec, { pollMicroseconds: 0 });
    const driver = await device.driver({ withoutFeatures });
    const { workerTask } = device;
    const sleepsAfter = (runs: number) =>
      until(() => Atomics.load(words, 0) >= runs && workerTask.state === TASK_INTERRUPTIBLE);
    await sleepsAfter(1); // the start, which must not meet the first request already
    const first = driver.request(0, new Uint8Array(4), 4);
    await sleepsAfter(2);
    Atomics.store(words, 1, 1);
    await Promise.all([first, driver.request(0, new Uint8Array(4), 4)]);
  },
);
