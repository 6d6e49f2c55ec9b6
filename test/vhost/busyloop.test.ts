// How long a worker looks at its rings before it sleeps, by what is said of its queues. Linux:
// VHOST_SET_VRING_BUSYLOOP_TIMEOUT.

import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { TASK_INTERRUPTIBLE, TASK_RUNNING } from "#dist/spec/sched.js";
import { VIRTIO_F_RING_RESET } from "#dist/spec/virtio-config.js";
import type { VhostWorker } from "#dist/vhost/worker.js";
import { WorkerLoop } from "#dist/vhost/worker-loop.js";
import { custom, rejected, until } from "../helpers/devices.js";
import { bit, RawGuest, THREADS, VERSION_1 } from "../helpers/raw-guest.js";

const OWN_US = 50;
/** A pass takes a microsecond by the test's clock. */
const PASS_MS = 0.001;
/** An idle worker asks for the time once in so many passes. */
const PASSES_A_CLOCK = 8;

const spec = custom("numbered", { words: new SharedArrayBuffer(1 << 12), queues: 2 });

/** Microseconds that an idle worker goes on for. */
function polledUs(worker: VhostWorker | undefined): number {
  let now = 0;
  const loop = new WorkerLoop(worker as VhostWorker, OWN_US / 1000, () => now);
  worker?.runWorkList();
  loop.begin();
  let passes = 0;
  for (; loop.poll(); passes++) now += PASS_MS;
  return Math.floor(passes / PASSES_A_CLOCK) * PASSES_A_CLOCK;
}

/** As the clock is not asked in each pass. */
const about = (us: number) => Math.ceil(us / PASSES_A_CLOCK) * PASSES_A_CLOCK;

describe("a worker without a thread", () => {
  const open = () => {
    const features = VERSION_1 | bit(VIRTIO_F_RING_RESET);
    return RawGuest.open(spec, { run: "inline", queues: 2, features });
  };

  test("the longest of its queues' counts, its own where nothing is said", async () => {
    await using guest = await open();
    const { dev } = guest;
    const polled = () => polledUs(dev.worker.inline);
    expect(polled()).toBe(about(OWN_US));
    await dev.setVringBusyloopTimeout(0, 200);
    expect(polled()).toBe(about(200));
    await dev.setVringBusyloopTimeout(1, 1000);
    expect(polled()).toBe(about(1000));
    await dev.setVringBusyloopTimeout(1, undefined);
    expect(polled()).toBe(about(200));
    await dev.setVringBusyloopTimeout(0, 0);
    expect(polled()).toBe(0);
    await dev.stop();
    await dev.setVringBusyloopTimeout(1, 96);
    await dev.start();
    expect(polled()).toBe(about(96));
    await dev.resetVring(1);
    expect(polled()).toBe(0);
    await dev.reset();
    expect(polled()).toBe(about(OWN_US));
  });

  test("a queue that is moved takes its count along", async () => {
    await using guest = await open();
    const { dev } = guest;
    await dev.setVringBusyloopTimeout(1, 400);
    const first = dev.worker.inline;
    await dev.attachVringWorker(1, await dev.newWorker());
    expect(polledUs(first)).toBe(about(OWN_US));
    await dev.attachVringWorker(0, 1);
    await dev.setVringBusyloopTimeout(0, 800);
    await dev.attachVringWorker(1, 0);
    expect(polledUs(first)).toBe(about(400));
    await dev.setVringBusyloopTimeout(1, 800);
    expect(polledUs(first)).toBe(about(800));
  });

  test("ENOBUFS: no such queue; EINVAL: no u32", async () => {
    await using guest = await open();
    await rejected("ENOBUFS", guest.dev.setVringBusyloopTimeout(2, 0));
    for (const odd of [-1, 0.5, 2 ** 32, Number.NaN]) {
      await rejected("EINVAL", guest.dev.setVringBusyloopTimeout(0, odd));
    }
    await guest.dev.setVringBusyloopTimeout(0, 2 ** 32 - 1);
  });
});

test.each(THREADS)("$run, $ring ring: it stays awake, and sleeps when told", async (mode) => {
  await using guest = await RawGuest.open(spec, { ...mode, queues: 2, pollMicroseconds: 0 });
  const { task } = guest.dev.worker.task;
  await until(() => task.state === TASK_INTERRUPTIBLE);
  await guest.dev.setVringBusyloopTimeout(1, 60_000_000);
  await guest.ring.request([new Uint8Array(4), 4]);
  await sleep(50);
  expect(task.state).toBe(TASK_RUNNING);
  await guest.dev.setVringBusyloopTimeout(1, 0);
  await until(() => task.state === TASK_INTERRUPTIBLE);
  await guest.ring.request([new Uint8Array(4), 4]);
});
