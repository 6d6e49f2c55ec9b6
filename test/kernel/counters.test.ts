import fc from "fast-check";
import { expect, test } from "vitest";
import { accountCpu, type Cgroup, cgroupAttachTask } from "#dist/kernel/cgroup.js";
import { commitCreds, setresuid } from "#dist/kernel/cred.js";
import { beginNewExec } from "#dist/kernel/exec.js";
import { doWait, kernelWait4 } from "#dist/kernel/exit.js";
import { copyProcess } from "#dist/kernel/fork.js";
import { isHalted } from "#dist/kernel/halt.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { createIoThread, kernelThread } from "#dist/kernel/kthread.js";
import type { Mm } from "#dist/kernel/mm.js";
import { unshare } from "#dist/kernel/nsproxy.js";
import { setChildSubreaper } from "#dist/kernel/reparent.js";
import { doPrlimit } from "#dist/kernel/rlimit.js";
import { sendSignal } from "#dist/kernel/send-signal.js";
import type { Task } from "#dist/kernel/task.js";
import { vhostKthreadCreate } from "#dist/kernel/vhost-kthread.js";
import { vhostTaskCreate, vhostTaskStart } from "#dist/kernel/vhost-task.js";
import { TASK_FLAG_FROZEN, TASK_FLAG_STOPPED, WORD_FLAGS } from "#dist/kernel/wait.js";
import { VhostError } from "#dist/spec/errno.js";
import {
  __TASK_STOPPED,
  __WALL,
  __WCLONE,
  CLONE_NEWPID,
  CLONE_NEWUSER,
  CLONE_NEWUTS,
  CLONE_VM,
  SIGCHLD,
  SIGKILL,
  TASK_INTERRUPTIBLE,
  TASK_NEW,
  TASK_RUNNING,
} from "#dist/spec/sched.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { counted, recounted, type User } from "../helpers/kernel-counts.js";

const UIDS = [0, 1000, 1001];
const PATHS = ["/", "/a", "/a/b", "/a/c", "/d"];
const pick = <T>(list: readonly T[], at: number): T => list[at % list.length] as T;

/** Every operation, each with two numbers to choose by: `x` picks a task, `y` the rest. */
const operations: Record<string, (kernel: Kernel, task: Task, y: number) => unknown> = {
  spawn: (kernel, _, y) =>
    kernel.spawn({
      uid: pick(UIDS, y),
      cgroup: pick(PATHS, y >> 2),
      rlimits: { NPROC: 2 + (y % 7) },
      memoryBytes: 65536,
    }),
  fork: (kernel, task, y) =>
    copyProcess(kernel, task, { flags: y % 2 ? CLONE_VM : 0, exitSignal: y % 3 ? SIGCHLD : 0 }),
  clone: (kernel, task, y) =>
    copyProcess(kernel, task, {
      flags: CLONE_VM | pick([CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWUSER | CLONE_NEWPID], y),
      exitSignal: y % 2 ? SIGCHLD : SIGNALS.SIGUSR1,
    }),
  kthreadWorker: (kernel, task) => vhostKthreadCreate(kernel, task, { name: "k", run: "inline" }),
  subreaper: (_, task, y) => setChildSubreaper(task, y % 2 === 0),
  ignoreChildren: (_, task, y) => {
    if (y % 2) task.sighand.actions.set(SIGCHLD, "SIG_IGN");
    else task.sighand.actions.delete(SIGCHLD);
  },
  waitAny: (kernel, task, y) => doWait(kernel, task, pick([-1, 0], y), y % 3 ? __WALL : 0),
  into: (kernel, task, y) =>
    copyProcess(kernel, task, { flags: CLONE_VM, cgroup: kernel.cgroup(pick(PATHS, y)) }),
  worker: (kernel, task) => vhostTaskCreate(kernel, task, { name: "w", run: "inline" }),
  started: (kernel, task) =>
    vhostTaskStart(vhostTaskCreate(kernel, task, { name: "w", run: "inline" })),
  ioThread: (kernel, task) => createIoThread(kernel, task, {}),
  kthread: (kernel, _, y) =>
    kernelThread(kernel, kernel.kthreadd, { flags: 0, exitSignal: y % 2 ? SIGCHLD : 0 }),
  refused: (kernel, task) =>
    copyProcess(kernel, task, {
      flags: 0,
      fn: () => {
        throw new VhostError("ENOMEM", "no thread");
      },
    }),
  exit: (kernel, task, y) => kernel.exitTask(task, y),
  exitGroup: (kernel, task, y) => kernel.exitGroup(task, y),
  kill: (kernel, task) => kernel.kill(task.pid, SIGKILL),
  wait: (kernel, task, y) => kernelWait4(kernel, task.parent, task.pid, y % 2 ? __WCLONE : 0),
  nproc: (_, task, y) => doPrlimit(task, task, "NPROC", { cur: y % 6, max: 8 }),
  pidsMax: (kernel, _, y) => {
    kernel.cgroup(pick(PATHS, y)).pidsMax = pick([0, 3, 6, Number.POSITIVE_INFINITY], y >> 3);
  },
  memoryMax: (kernel, _, y) => {
    const pages = pick([0, 2, 5, Number.POSITIVE_INFINITY], y >> 3);
    kernel.cgroup(pick(PATHS, y)).memoryMax = pages * 65536;
  },
  cpuMax: (kernel, _, y) => {
    const quotaUs = pick([1000, 5000, Number.POSITIVE_INFINITY], y >> 3);
    kernel.cgroup(pick(PATHS, y)).cpuMax = { quotaUs, periodUs: 1_000_000 };
  },
  run: (_, task, y) => {
    accountCpu(task, y);
    for (let at: Cgroup | null = task.cgroup; at !== null; at = at.parent) {
      ran.set(at, (ran.get(at) ?? 0) + y);
    }
  },
  setuid: (kernel, task, y) => commitCreds(kernel, task, { ...task.cred, uid: pick(UIDS, y) }),
  setresuid: (kernel, task, y) => setresuid(kernel, task, { uid: pick(UIDS, y) }),
  exec: (kernel, task) => {
    if (task.groupLeader !== task || task.exitState !== 0 || task.pid < 3) return;
    beginNewExec(kernel, task, { comm: "new", memoryBytes: 65536 });
  },
  signal: (kernel, task, y) => sendSignal(kernel, task, 1 + (y % 31), y % 2 === 0),
  freeze: (kernel, _, y) => {
    kernel.cgroup(pick(PATHS, y)).freeze = y % 2 === 0;
  },
  unshare: (kernel, task, y) => unshare(kernel, task, pick([CLONE_NEWUTS, CLONE_NEWPID], y)),
  move: (kernel, task, y) => cgroupAttachTask(kernel.cgroup(pick(PATHS, y)), task),
  moveTo: (kernel, task, y) => kernel.moveToCgroup(task.pid, pick(PATHS, y)),
};

/** Microseconds that tasks were made to run in a group and below. */
const ran = new WeakMap<Cgroup, number>();

const step = fc.record({
  name: fc.constantFrom(...Object.keys(operations)),
  x: fc.nat(63),
  y: fc.nat(63),
});

/** Refusals are part of the game; anything else is a bug. */
function attempt(action: () => unknown): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof VhostError)) throw error;
  }
}

const EPOCHS = ["v6.4-merge", "v6.4", "v6.12"] as const;

test.each(EPOCHS)("%s: counters equal a recount, always; in the end all is given back", (epoch) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const kernel = new Kernel({ threadsMax: 24, epoch });
      const mms = new Set<Mm>();
      const makers = new Map<number, User>();
      const cgroups: Cgroup[] = PATHS.map((path) => kernel.cgroup(path));
      const check = () => {
        for (const { mm } of kernel.tasks()) if (mm) mms.add(mm);
        const seen = { uids: UIDS, cgroups, mms, makers };
        expect(counted(kernel, seen)).toEqual(recounted(kernel, seen));
        expect(kernel.tasks().length).toBeLessThanOrEqual(24);
        for (const task of kernel.tasks()) checkTies(kernel, task);
        for (const task of kernel.tasks()) checkHalt(task);
        for (const group of cgroups) expect(group.cpuUsageUs).toBe(ran.get(group) ?? 0);
      };
      for (const { name, x, y } of steps) {
        const task = pick(kernel.tasks(), x);
        const maker = { uid: task.cred.euid, userNs: task.cred.userNs };
        attempt(() => operations[name]?.(kernel, task, y));
        for (const { cred } of kernel.tasks()) {
          if (cred.userNs !== 0 && !makers.has(cred.userNs)) makers.set(cred.userNs, maker);
        }
        check();
      }
      const mortals = kernel.tasks().filter(({ pid }) => pid > 2);
      for (const task of mortals) kernel.exitTask(task, 0);
      check();
      for (const task of mortals) {
        for (const options of [0, __WCLONE]) {
          attempt(() => kernelWait4(kernel, task.parent, task.pid, options));
        }
      }
      check();
      expect(kernel.tasks()).toEqual([kernel.init, kernel.kthreadd]);
      expect([...mms].every(({ users }) => users === 0)).toBe(true);
    }),
    { numRuns: 300 },
  );
});

/** What a task's thread is told is what the rules say of it; without one, its state shows it. */
function checkHalt(task: Task): void {
  if (task.exitState !== 0) return;
  const flags = new Int32Array(task.words)[WORD_FLAGS] ?? 0;
  expect((flags & (TASK_FLAG_STOPPED | TASK_FLAG_FROZEN)) !== 0).toBe(isHalted(task));
  if (task.state === TASK_NEW) return;
  const halted = flags & TASK_FLAG_STOPPED ? __TASK_STOPPED : TASK_INTERRUPTIBLE;
  expect(task.state).toBe(isHalted(task) ? halted : TASK_RUNNING);
}

/** Table, parents and thread groups tell the same story. */
function checkTies(kernel: Kernel, task: Task): void {
  const isLeader = task.groupLeader === task;
  expect(task.parent.children.has(task)).toBe(isLeader);
  expect(task.signal.threads.has(task)).toBe(true);
  expect(kernel.task(task.tgid)).toBe(task.groupLeader);
  expect(task.parent.pid === 0 || kernel.task(task.parent.pid) === task.parent).toBe(true);
  for (const child of task.children) expect(child.parent).toBe(task);
}
