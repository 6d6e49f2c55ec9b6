// What a parent hears of its children's ends, how it waits for them, and who inherits them.

import { describe, expect, test } from "vitest";
import { beginNewExec } from "#dist/kernel/exec.js";
import { doWait } from "#dist/kernel/exit.js";
import { copyProcess } from "#dist/kernel/fork.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { createIoThread } from "#dist/kernel/kthread.js";
import { setChildSubreaper } from "#dist/kernel/reparent.js";
import type { Task } from "#dist/kernel/task.js";
import {
  __WALL,
  __WCLONE,
  __WNOTHREAD,
  CLONE_PARENT,
  CLONE_VM,
  EXIT_DEAD,
  EXIT_ZOMBIE,
  SIGKILL,
} from "#dist/spec/sched.js";
import { SIGNALS, sigmask } from "#dist/spec/signal.js";
import { refused } from "../helpers/kernel-counts.js";

const { SIGCHLD, SIGUSR1, SIGTERM } = SIGNALS;

const boot = () => {
  const kernel = new Kernel({ epoch: "v6.12" });
  const parent = kernel.spawn({ uid: 1000, memoryBytes: 65536 });
  const fork = (current: Task = parent, exitSignal: number = SIGCHLD, flags = 0) =>
    copyProcess(kernel, current, { flags: CLONE_VM | flags, exitSignal });
  return { kernel, parent, fork };
};

/** Notes what `parent` takes of those signals. */
function listen(parent: Task, ...signals: number[]): [pid: number, sig: number][] {
  const heard: [number, number][] = [];
  for (const sig of signals) parent.sighand.actions.set(sig, ({ pid }, s) => heard.push([pid, s]));
  return heard;
}

describe("a child's end", () => {
  test("is told by its exit signal: SIGCHLD, another, or none", () => {
    const { kernel, parent, fork } = boot();
    const heard = listen(parent, SIGCHLD, SIGUSR1);
    for (const sig of [SIGCHLD, SIGUSR1, 0]) kernel.exitTask(fork(parent, sig), 0);
    expect(heard.map(([, sig]) => sig)).toEqual([SIGCHLD, SIGUSR1]);
  });

  test("is told once, when the last of its threads goes", () => {
    const { kernel, parent, fork } = boot();
    const heard = listen(parent, SIGCHLD);
    const child = fork();
    const thread = createIoThread(kernel, child, {});
    kernel.exitTask(child, 0);
    expect(heard).toEqual([]);
    kernel.exitTask(thread, 0);
    expect(heard).toHaveLength(1);
    kernel.kill(fork().pid, SIGKILL);
    expect(heard).toHaveLength(2);
  });

  test("is told by SIGCHLD after a new program, whatever was asked for", () => {
    const { kernel, parent, fork } = boot();
    const heard = listen(parent, SIGCHLD, SIGUSR1);
    const child = fork(parent, SIGUSR1);
    beginNewExec(kernel, child, { comm: "new", memoryBytes: 65536 });
    kernel.exitTask(child, 0);
    expect(heard).toEqual([[parent.pid, SIGCHLD]]);
  });

  test("a thread's end is not told", () => {
    const { kernel, parent } = boot();
    const heard = listen(parent, SIGCHLD);
    kernel.exitTask(createIoThread(kernel, parent, {}), 0);
    expect(heard).toEqual([]);
  });

  test("goes to the process: a thread that does not block it takes it", () => {
    const { kernel, parent, fork } = boot();
    const heard = listen(parent, SIGCHLD);
    parent.blocked = sigmask(SIGCHLD);
    kernel.exitTask(fork(), 0);
    expect([heard, parent.signal.sharedPending]).toEqual([[], sigmask(SIGCHLD)]);
  });

  test("can be the parent's, where the exit signal kills", () => {
    const { kernel, parent, fork } = boot();
    const child = fork(parent, SIGTERM);
    kernel.exitTask(child, 0);
    expect([parent.exitState, parent.exitCode]).toEqual([EXIT_DEAD, SIGTERM]);
    expect(kernel.task(child.pid)).toBeUndefined();
  });

  test("SIGCHLD ignored: no zombie and no signal; by default: a zombie", () => {
    const { kernel, parent, fork } = boot();
    const first = fork();
    kernel.exitTask(first, 0);
    expect(first.exitState).toBe(EXIT_ZOMBIE);
    parent.sighand.actions.set(SIGCHLD, "SIG_IGN");
    const [second, other] = [fork(), fork(parent, SIGUSR1)];
    listen(parent, SIGUSR1);
    for (const task of [second, other]) kernel.exitTask(task, 0);
    expect([second.exitState, other.exitState]).toEqual([EXIT_DEAD, EXIT_ZOMBIE]);
    refused("ECHILD", () => doWait(kernel, parent, second.pid));
    expect(kernel.ucounts.nproc(1000)).toBe(3);
  });

  test("a handler that waits gets it", () => {
    const { kernel, parent, fork } = boot();
    const got: unknown[] = [];
    parent.sighand.actions.set(SIGCHLD, () => got.push(doWait(kernel, parent, -1)));
    const child = fork();
    kernel.exitTask(child, 3 << 8);
    expect(got).toEqual([{ pid: child.pid, code: 3 << 8 }]);
    expect(kernel.tasks()).toHaveLength(3);
  });
});

describe("doWait", () => {
  test("-1 is any child, the first that has ended; null while all live; ECHILD without", () => {
    const { kernel, parent, fork } = boot();
    refused("ECHILD", () => doWait(kernel, parent, -1));
    const [one, two] = [fork(), fork()];
    expect(doWait(kernel, parent, -1)).toBeNull();
    kernel.exitTask(two, 2);
    expect(doWait(kernel, parent, -1)).toEqual({ pid: two.pid, code: 2 });
    expect(doWait(kernel, parent, -1)).toBeNull();
    kernel.exitTask(one, 1);
    expect(doWait(kernel, parent, -1)).toEqual({ pid: one.pid, code: 1 });
    refused("ECHILD", () => doWait(kernel, parent, -1));
  });

  test("0 and less name process groups", () => {
    const { kernel, parent, fork } = boot();
    const [mine, other] = [fork(), fork()];
    other.signal.pgrp = other.pid;
    kernel.exitTask(other, 1);
    expect(doWait(kernel, parent, 0)).toBeNull();
    expect(doWait(kernel, parent, -other.pid)).toEqual({ pid: other.pid, code: 1 });
    refused("ECHILD", () => doWait(kernel, parent, -other.pid));
    kernel.exitTask(mine, 2);
    expect(doWait(kernel, parent, 0)?.pid).toBe(mine.pid);
  });

  test("__WCLONE, __WALL, __WNOTHREAD", () => {
    const { kernel, parent, fork } = boot();
    const clone = fork(parent, 0);
    kernel.exitTask(clone, 1);
    refused("ECHILD", () => doWait(kernel, parent, -1));
    const thread = createIoThread(kernel, parent, {});
    refused("ECHILD", () => doWait(kernel, thread, -1, __WALL | __WNOTHREAD));
    expect(doWait(kernel, thread, -1, __WALL)?.pid).toBe(clone.pid);
    const plain = fork(thread);
    refused("ECHILD", () => doWait(kernel, parent, -1, __WCLONE));
    expect(doWait(kernel, parent, plain.pid)).toBeNull();
    expect(doWait(kernel, thread, -1, __WNOTHREAD)).toBeNull();
  });
});

describe("orphans", () => {
  test("go to the nearest ancestor that asked for them, which hears SIGCHLD", () => {
    const { kernel, parent, fork } = boot();
    const middle = fork();
    const near = fork(middle);
    const dying = fork(near);
    const [orphan, dead] = [fork(dying, 0), fork(dying, 0)];
    for (const task of [parent, middle]) setChildSubreaper(task, true);
    const heard = listen(middle, SIGCHLD);
    kernel.exitTask(dead, 5);
    kernel.exitTask(dying, 0); // near's child
    expect([orphan.parent, orphan.exitSignal]).toEqual([middle, SIGCHLD]);
    expect(heard).toHaveLength(1); // of the one that was dead
    kernel.exitTask(orphan, 6);
    expect(heard).toHaveLength(2);
    expect(doWait(kernel, middle, dead.pid)?.code).toBe(5);
    expect(doWait(kernel, middle, orphan.pid)?.code).toBe(6);
  });

  test("a subreaper's children do not ask with it; it can stop asking; init takes the rest", () => {
    const { kernel, parent, fork } = boot();
    setChildSubreaper(parent, true);
    const child = fork();
    expect(child.signal.isChildSubreaper).toBe(false);
    const [first, second] = [fork(fork(child)), fork(fork(child))];
    kernel.exitTask(first.parent, 0);
    expect(first.parent).toBe(parent);
    setChildSubreaper(parent, false);
    kernel.exitTask(second.parent, 0);
    expect(second.parent).toBe(kernel.init);
  });

  test("a dead subreaper's living thread takes them", () => {
    const { kernel, parent, fork } = boot();
    setChildSubreaper(parent, true);
    const thread = createIoThread(kernel, parent, {});
    const child = fork();
    const orphan = fork(child);
    kernel.exitTask(parent, 0);
    kernel.exitTask(child, 0);
    expect(orphan.parent).toBe(thread);
  });

  test("a sibling by CLONE_PARENT is its parent's child, with the caller's exit signal", () => {
    const { kernel, parent, fork } = boot();
    const heard = listen(parent, SIGUSR1);
    const sibling = fork(fork(parent, SIGUSR1), 0, CLONE_PARENT);
    expect(sibling.parent).toBe(parent);
    kernel.exitTask(sibling, 0);
    expect(heard).toHaveLength(1);
  });
});
