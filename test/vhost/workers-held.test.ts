// All workers of a device obey: SIGSTOP, a freeze, and the CPU time of their group.

import { setTimeout as after } from "node:timers/promises";
import { expect, test } from "vitest";
import { blk, Kernel } from "#dist/index.js";
import { __TASK_STOPPED, TASK_INTERRUPTIBLE, TASK_THROTTLED } from "#dist/spec/sched.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { threadCount, until } from "../helpers/devices.js";

const { SIGSTOP, SIGCONT } = SIGNALS;
const QUEUES = 3;
/** Far longer than workers that may run take. */
const A_WHILE_MS = 100;

async function boot() {
  const kernel = new Kernel({ epoch: "v6.12" });
  const vmm = kernel.spawn({ cgroup: "/a", memoryBytes: 4 << 20 });
  const disk = await vmm.open(blk({ nullBytes: 1 << 20, queues: QUEUES }), { workers: QUEUES });
  const drive = await disk.driver();
  /** One on each queue. */
  const reads = () => Promise.all(Array.from({ length: QUEUES }, () => drive.read(0, 512)));
  await reads();
  return { kernel, vmm, disk, reads, tasks: [...disk.workerTasks.values()] };
}

const isDone = (work: Promise<unknown>) =>
  Promise.race([work.then(() => true), after(A_WHILE_MS, false)]);

test("SIGSTOP and SIGCONT to the owner, a freeze", async () => {
  const { kernel, vmm, reads, tasks } = await boot();
  kernel.kill(vmm.pid, SIGSTOP);
  await until(() => tasks.every(({ state }) => state === __TASK_STOPPED));
  const stopped = reads();
  expect(await isDone(stopped)).toBe(false);
  kernel.kill(vmm.pid, SIGCONT);
  await stopped;
  const group = kernel.cgroup("/a");
  group.freeze = true;
  await until(() => tasks.every(({ state }) => state === TASK_INTERRUPTIBLE)); // no turn after it
  const frozen = reads();
  expect(await isDone(frozen)).toBe(false);
  group.freeze = false;
  await frozen;
  await vmm.exit();
});

test("cpu.max is for all together; a queue is moved, the device closed, all the same", async () => {
  const threads = threadCount();
  const { kernel, vmm, disk, reads, tasks } = await boot();
  const group = kernel.cgroup("/a");
  group.cpuMax = { quotaUs: 1000, periodUs: 1_000_000 };
  group.cpu.charge(group.number, 60_000);
  const all: Promise<unknown>[] = [];
  while (!tasks.every(({ state }) => state === TASK_THROTTLED)) {
    all.push(reads().catch(({ code }) => code));
    await after(1);
  }
  const late = reads().catch(({ code }) => code);
  expect(await isDone(late)).toBe(false);
  await disk.attachQueue(0, 2);
  expect(disk.workerOf(0)).toBe(2);
  expect(await isDone(late)).toBe(false);
  await disk.close();
  expect(await late).toBe("ENODEV");
  await Promise.all(all);
  await vmm.exit();
  expect([threadCount(), kernel.model.tasks().length]).toEqual([threads, 2]);
});
