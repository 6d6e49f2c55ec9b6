// Rules of tasks that were broken once: each as a real kernel has them.

import { describe, expect, test } from "vitest";
import { cgroupAttachTask } from "#dist/kernel/cgroup.js";
import { copyProcess, wakeUpNewTask } from "#dist/kernel/fork.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { ptraceAttach, ptraceDetach } from "#dist/kernel/ptrace.js";
import { sendSignal } from "#dist/kernel/send-signal.js";
import type { Task } from "#dist/kernel/task.js";
import { CLONE_SIGHAND, CLONE_THREAD, CLONE_VM, SIGCHLD } from "#dist/spec/sched.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { refused } from "../helpers/kernel-counts.js";

const { SIGKILL, SIGQUIT, SIGSTOP, SIGTERM, SIGUSR1 } = SIGNALS;
const spawn = (kernel: Kernel, cgroup = "/a") => kernel.spawn({ cgroup, memoryBytes: 65536 });
const fork = (kernel: Kernel, parent: Task) => {
  const child = copyProcess(kernel, parent, { flags: CLONE_VM, exitSignal: SIGCHLD });
  wakeUpNewTask(child);
  return child;
};

describe("a frozen process", () => {
  test.each([SIGTERM, SIGUSR1, SIGKILL])("is ended by signal %i, which leaves no core", (sig) => {
    const kernel = new Kernel();
    const task = spawn(kernel);
    kernel.cgroup("/a").freeze = true;
    kernel.kill(task.pid, sig);
    expect(task.exitState).not.toBe(0);
  });

  test("by one that leaves a core, when it goes on", () => {
    const kernel = new Kernel();
    const task = spawn(kernel);
    kernel.cgroup("/a").freeze = true;
    kernel.kill(task.pid, SIGQUIT);
    expect(task.exitState).toBe(0);
    kernel.cgroup("/a").freeze = false;
    expect(task.exitState).not.toBe(0);
  });

  test("that is stopped, too, takes it when it is continued", () => {
    const kernel = new Kernel();
    const task = spawn(kernel);
    kernel.kill(task.pid, SIGSTOP);
    kernel.cgroup("/a").freeze = true;
    kernel.kill(task.pid, SIGTERM);
    expect(task.exitState).toBe(0);
  });
});

describe("what came while it was traced", () => {
  test.each(["detaches", "exits"])("is taken when the tracer %s", (how) => {
    const kernel = new Kernel();
    const [tracer, task] = [spawn(kernel), spawn(kernel)];
    ptraceAttach(tracer, task);
    sendSignal(kernel, task, SIGTERM, true);
    expect(task.exitState).toBe(0);
    if (how === "exits") kernel.exitTask(tracer, 0);
    else ptraceDetach(kernel, tracer, task);
    expect(task.exitState).not.toBe(0);
  });
});

describe("moves between control groups", () => {
  test("a zombie stays where it was counted", () => {
    const kernel = new Kernel();
    const parent = spawn(kernel);
    const child = fork(kernel, parent);
    kernel.exitTask(child, 0);
    kernel.moveToCgroup(child.pid, "/b");
    expect([kernel.cgroup("/a").pidsCurrent, kernel.cgroup("/b").pidsCurrent]).toEqual([2, 0]);
  });

  test("a leader that has exited stays, its thread moves", () => {
    const kernel = new Kernel();
    const leader = spawn(kernel);
    const flags = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
    wakeUpNewTask(copyProcess(kernel, leader, { flags }));
    kernel.exitTask(leader, 0);
    cgroupAttachTask(kernel.cgroup("/b"), leader);
    expect([kernel.cgroup("/a").pidsCurrent, kernel.cgroup("/b").pidsCurrent]).toEqual([1, 1]);
  });

  test("kthreadd stays", () => {
    const kernel = new Kernel();
    refused("EINVAL", () => kernel.moveToCgroup(2, "/a"));
  });

  test("to a path or a name that is too long: ENAMETOOLONG; one that is deep will do", () => {
    const kernel = new Kernel();
    const task = spawn(kernel);
    refused("ENAMETOOLONG", () => kernel.moveToCgroup(task.pid, "/a".repeat(2048)));
    refused("ENAMETOOLONG", () => kernel.moveToCgroup(task.pid, `/${"a".repeat(256)}`));
    kernel.moveToCgroup(task.pid, "/a".repeat(2047));
    expect(fork(kernel, task).cgroup).toBe(task.cgroup);
  });
});

test("pid_max that was lowered holds for the pids before it, too", () => {
  const kernel = new Kernel();
  const tasks = Array.from({ length: 400 }, () => spawn(kernel));
  kernel.pidMax = 320;
  kernel.exitTask(tasks[390] as Task, 0);
  refused("EAGAIN", () => spawn(kernel));
  const low = tasks.find(({ pid }) => pid === 310) as Task;
  kernel.exitTask(low, 0);
  expect(spawn(kernel).pid).toBe(310);
});

test("ps of a long chain of processes", () => {
  const kernel = new Kernel();
  let task = spawn(kernel);
  for (let i = 0; i < 5000; i++) task = fork(kernel, task);
  const rows = kernel.ps();
  expect(rows).toHaveLength(5003);
  expect(rows.at(-2)).toMatchObject({ pid: task.pid, depth: 5001 });
});
