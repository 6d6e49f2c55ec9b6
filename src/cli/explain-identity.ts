import { cgroupAttachTask } from "../kernel/cgroup.js";
import { unshare } from "../kernel/nsproxy.js";
import { ptraceAttach, ptraceDetach } from "../kernel/ptrace.js";
import { doPrlimit } from "../kernel/rlimit.js";
import { setUserNice } from "../kernel/sched.js";
import type { Task } from "../kernel/task.js";
import { CLONE_NEWPID, PF_KTHREAD, PF_USER_WORKER } from "../spec/sched.js";
import { attempt, codeOf, type OpenDisk, type Scene, tryHalted } from "./explain-scene.js";

/** One line of the table: what it is called, and how it is seen in a scene made for it. */
export interface Property {
  readonly name: string;
  /** Looks; whatever it does to the scene is gone with it. */
  observe(scene: Scene): Promise<string>;
  /** The owner's user; default 1000, without capabilities. */
  readonly uid?: number;
}

/** CPU time that counts as charged, in microseconds. */
const CHARGED_US = 1000;
const READS_MAX = 20_000;

/** A property that is seen with a disk open. */
const ofDisk = (
  name: string,
  look: (disk: OpenDisk, scene: Scene) => string | Promise<string>,
): Property => ({ name, observe: async (scene) => look(await scene.open(), scene) });

const kindOf = ({ worker }: OpenDisk, { owner }: Scene): string => {
  if (worker.tgid === owner.pid) return "a thread of its owner";
  const { parent } = worker;
  return `a process, child of ${parent === owner.task ? "its owner" : parent.comm}`;
};

const flagsOf = ({ flags }: Task): string => {
  const names = Object.entries({ PF_USER_WORKER, PF_KTHREAD }).filter(([, bit]) => flags & bit);
  return [`0x${flags.toString(16)}`, ...names.map(([name]) => name)].join(" ");
};

function limitOf({ worker }: OpenDisk, { owner, kernel }: Scene): string {
  const { signal } = worker;
  const before = signal.rlimits.NPROC.cur;
  doPrlimit(kernel.model.init, owner.task, "NPROC", { cur: 7, max: 7 });
  return `${before}; ${signal.rlimits.NPROC.cur} when the owner's becomes 7`;
}

function memoryOf({ worker }: OpenDisk, { owner }: Scene): string {
  const { mm } = owner.task;
  if (worker.mm === mm) return "its owner's";
  return worker.activeMm === mm ? "none of its own; borrows its owner's" : "another";
}

function filesOf({ worker }: OpenDisk, { owner, kernel }: Scene): string {
  if (worker.files === null) return "none";
  if (worker.files === owner.task.files) return "its owner's";
  return worker.files === kernel.model.kthreadd.files ? "kthreadd's" : "a table of its own";
}

function cgroupOf({ worker }: OpenDisk, { owner, kernel }: Scene): string {
  const before = worker.cgroup.path;
  cgroupAttachTask(kernel.model.cgroup("/other"), owner.task);
  return `${before}; ${worker.cgroup.path} when its owner moves to /other`;
}

/** Reads until the worker's thread has charged a millisecond somewhere, or does not charge. */
async function cpuTimeOf({ drive, worker }: OpenDisk, { owner, kernel }: Scene): Promise<string> {
  const clocks = [
    { name: "its owner's cgroup", us: () => kernel.model.cgroup("/tenant").cpuUsageUs },
    { name: "its owner's process", us: () => owner.task.signal.cpuTimeUs },
  ].map((clock) => ({ ...clock, before: clock.us() }));
  const from = worker.cpuTimeUs;
  for (let reads = 0; reads < READS_MAX && worker.cpuTimeUs - from < CHARGED_US; reads++) {
    await drive.read(0, 512);
  }
  const charged = clocks.filter(({ us, before }) => us() - before >= CHARGED_US);
  return charged.map(({ name }) => name).join(" and ") || "neither";
}

/** What the worker is, and whose limits hold for it. */
export const IDENTITY: readonly Property[] = [
  ofDisk("what it is", kindOf),
  ofDisk("listed by ps(1)", ({ worker }, { kernel }) => {
    const isListed = kernel.ps().some(({ pid }) => pid === worker.pid);
    return isListed ? "a line of its own" : "no line";
  }),
  ofDisk("comm", ({ worker }) => worker.comm),
  ofDisk("flags", ({ worker }) => flagsOf(worker)),
  ofDisk("user, effective capabilities", ({ worker: { cred } }) => {
    return `uid ${cred.uid}, ${cred.caps.size} capabilities`;
  }),
  ofDisk("RLIMIT_NPROC that it shows", limitOf),
  ofDisk("tasks of its owner's user, with it", ({ worker }, { kernel, owner }) => {
    const nproc = kernel.model.ucounts.nproc(owner.task.cred.uid);
    return `${nproc}${worker.cred.uid === owner.task.cred.uid ? "" : ": it is not counted"}`;
  }),
  {
    name: "made where RLIMIT_NPROC is reached",
    observe: (scene) => {
      const { kernel, owner } = scene;
      doPrlimit(kernel.model.init, owner.task, "NPROC", { cur: 1, max: 1 });
      return scene.tryOpen();
    },
  },
  {
    name: "made where pids.max (1) is reached",
    observe: async (scene) => {
      const group = scene.kernel.model.cgroup("/tenant");
      group.pidsMax = 1;
      return `${await scene.tryOpen()}; pids.current ${group.pidsCurrent}`;
    },
  },
  {
    name: "made where threads-max is reached",
    observe: (scene) => {
      const { model } = scene.kernel;
      for (model.threadsMax = 20; model.tasks().length < 20; ) scene.kernel.spawn({ uid: 1 });
      return scene.tryOpen();
    },
  },
  {
    name: "made after unshare(CLONE_NEWPID)",
    uid: 0,
    observe: (scene) => {
      unshare(scene.kernel.model, scene.owner.task, CLONE_NEWPID);
      return scene.tryOpen();
    },
  },
  ofDisk("a further worker (VHOST_NEW_WORKER)", ({ device }) => {
    return device.dev.newWorker().then(() => "made", codeOf);
  }),
  ofDisk("cgroup", cgroupOf),
  ofDisk("CPU time is charged to", cpuTimeOf),
  ofDisk("memory", memoryOf),
  ofDisk("open files", filesOf),
  {
    name: "nice, made by an owner of nice 5",
    observe: async (scene) => {
      setUserNice(scene.owner.task, scene.owner.task, 5);
      return `${(await scene.open()).worker.sched.nice}`;
    },
  },
  ofDisk("traced by root (PTRACE_ATTACH)", async (disk, { kernel }) => {
    const { worker } = disk;
    const { init } = kernel.model;
    const refusal = attempt(() => ptraceAttach(init, worker));
    if (worker.tracer !== init) return refusal;
    const state = await tryHalted(disk);
    ptraceDetach(kernel.model, init, worker);
    return `allowed; ${state}`;
  }),
];
