// What becomes of a device by ioctl when its owner exits, is killed, stops or execs, with the
// device held open by another or not; of each epoch and kind of worker.

import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { beginNewExec } from "#dist/kernel/exec.js";
import { copyProcess, wakeUpNewTask } from "#dist/kernel/fork.js";
import { __TASK_STOPPED, SIGCHLD } from "#dist/spec/sched.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { threadCount, until } from "../../helpers/devices.js";
import { IoctlProgram } from "../../helpers/ioctl-program.js";

const EPOCHS = ["v6.4-merge", "v6.4", "v6.12"] as const;
const MODES = EPOCHS.flatMap((epoch) =>
  [true, false].map((forkFromOwner) => ({ epoch, forkFromOwner })),
);

/** Longer than any kick takes to be acted on. */
const NO_KICK_MS = 30;

async function running(mode: (typeof MODES)[number]) {
  const threads = threadCount();
  const program = await new IoctlProgram(mode).start();
  const { kernel, task, tx, opened } = program;
  const sendOne = () => {
    tx.publish(tx.availIdx % tx.num);
    tx.kick.signal();
  };
  sendOne();
  await until(() => tx.usedIdx === 1);
  /** The owner's process is stopped, and its worker as well, if it stops with it. */
  const stop = async (workerStops: boolean) => {
    const [worker] = opened.file.state.workers.tasks;
    kernel.kill(task.pid, SIGNALS.SIGSTOP);
    await until(() => !workerStops || worker?.state === __TASK_STOPPED);
  };
  /** A child, which has what is open. */
  const fork = () => {
    const child = copyProcess(kernel, task, { flags: 0, exitSignal: SIGCHLD });
    wakeUpNewTask(child);
    return child;
  };
  /** Nothing is left of the device, and its program ends. */
  const gone = async () => {
    await until(() => threadCount() === threads);
    expect(opened.file.count).toBe(0);
    expect(kernel.tasks().filter(({ comm }) => comm.startsWith("vhost-"))).toEqual([]);
    expect([tx.kick, tx.call, tx.err].map(({ file }) => file.count)).toEqual([1, 1, 1]);
    const { mm } = task;
    expect(mm?.users ?? 0).toBe(0);
  };
  return { program, sendOne, stop, fork, gone };
}

describe.each(MODES)("$epoch, forkFromOwner $forkFromOwner", (mode) => {
  /** Its worker is a thread of the owner's process, and ends as one. */
  const endsWithOwner = mode.forkFromOwner && mode.epoch === "v6.12";
  /** Its worker stops when the owner's process is stopped. */
  const stopsWithOwner = mode.forkFromOwner && mode.epoch !== "v6.4-merge";

  test.each(["exit", "SIGKILL"])("%s of the owner, nobody else has it", async (how) => {
    const { program, gone } = await running(mode);
    const { kernel, task } = program;
    if (how === "exit") kernel.exitGroup(task, 0);
    else kernel.kill(task.pid, SIGNALS.SIGKILL);
    await gone();
  });

  test.each(["exit", "SIGKILL"])("%s of the owner, a child has it open", async (how) => {
    const { program, sendOne, fork, gone } = await running(mode);
    const { kernel, task, tx, opened } = program;
    const child = fork();
    if (how === "exit") kernel.exitGroup(task, 0);
    else kernel.kill(task.pid, SIGNALS.SIGKILL);
    expect(opened.file.count).toBe(1);
    const [worker] = opened.file.state.workers.tasks;
    expect(worker?.exitState !== 0).toBe(endsWithOwner);
    if (endsWithOwner) await worker?.thread?.exited; // its last turn is over
    sendOne();
    if (endsWithOwner)
      await sleep(NO_KICK_MS); // it vanishes
    else await until(() => tx.usedIdx === 2);
    expect(tx.usedIdx).toBe(endsWithOwner ? 1 : 2);
    const call = (name: string) => program.ioctl(name, {}, child);
    await expect(call("VHOST_SET_OWNER")).rejects.toMatchObject({ code: "EBUSY" });
    const refused = program.ioctl("VHOST_VSOCK_SET_RUNNING", { value: 0 }, child);
    await expect(refused).rejects.toMatchObject({ code: "EPERM" });
    kernel.exitGroup(child, 0);
    await gone();
  });

  test("the owner is stopped, kicked, and goes on: nothing is lost", async () => {
    const { program, sendOne, stop, gone } = await running(mode);
    const { kernel, task, tx } = program;
    await stop(stopsWithOwner);
    sendOne();
    await (stopsWithOwner ? sleep(NO_KICK_MS) : until(() => tx.usedIdx === 2));
    expect(tx.usedIdx).toBe(stopsWithOwner ? 1 : 2);
    kernel.kill(task.pid, SIGNALS.SIGCONT);
    await until(() => tx.usedIdx === 2);
    kernel.exitGroup(task, 0);
    await gone();
  });

  test("the owner is stopped, another sets its rings: no call waits for it to go on", async () => {
    const { program, sendOne, stop, gone } = await running(mode);
    const { kernel, task, tx, rx } = program;
    await stop(stopsWithOwner);
    for (const ring of [rx, tx]) await program.ioctl("VHOST_SET_VRING_ADDR", program.place(ring));
    expect(await program.ioctl("VHOST_GET_VRING_BASE", { index: 1 })).toMatchObject({ num: 1 });
    sendOne();
    await (stopsWithOwner ? sleep(NO_KICK_MS) : until(() => tx.usedIdx === 2));
    expect(tx.usedIdx).toBe(stopsWithOwner ? 1 : 2);
    for (const value of [0, 1]) await program.ioctl("VHOST_VSOCK_SET_RUNNING", { value });
    kernel.kill(task.pid, SIGNALS.SIGCONT);
    sendOne();
    await until(() => tx.usedIdx === 3);
    kernel.exitGroup(task, 0);
    await gone();
  });

  test("the owner execs: it is not the owner any more, the device stays as it was", async () => {
    const { program, gone } = await running(mode);
    const { kernel, task, opened } = program;
    const { mm } = task;
    beginNewExec(kernel, task, { comm: "other", memoryBytes: 1 << 20 });
    expect(mm?.users).toBeGreaterThan(0); // the device has it
    expect([opened.file.count, opened.file.state.owner.is(task)]).toEqual([1, false]);
    const call = program.ioctl("VHOST_VSOCK_SET_RUNNING", { value: 0 });
    await expect(call).rejects.toMatchObject({ code: "EPERM" });
    kernel.exitGroup(task, 0);
    await gone();
    expect(mm?.users).toBe(0);
  });
});
