import { checkNames } from "../spec/options.js";
import {
  __TASK_STOPPED,
  EXIT_ZOMBIE,
  PF_FORKNOEXEC,
  PF_IO_WORKER,
  PF_KTHREAD,
  PF_NOFREEZE,
  PF_USER_WORKER,
  TASK_INTERRUPTIBLE,
} from "../spec/sched.js";
import type { Kernel } from "./kernel.js";
import type { Task } from "./task.js";

/** One line of ps(1): a process, or a thread, as it was when asked. */
export interface PsRow {
  /** 0 for init and kthreadd, one more for each parent in between. */
  readonly depth: number;
  /** The task's own: a thread's is not its process's. */
  readonly pid: number;
  /** The process's. */
  readonly tgid: number;
  readonly ppid: number;
  readonly comm: string;
  /** PF_ bits. */
  readonly flags: number;
  /** Their names, the lowest bit first. */
  readonly flagNames: readonly string[];
  readonly uid: number;
  /** Path of the control group. */
  readonly cgroup: string;
  /**
   * R runs, may run, or waits for its group's CPU time; S sleeps, or is frozen; T stopped; Z
   * zombie. A thread that is told to stop is R until it has done so.
   */
  readonly state: PsState;
  /** Microseconds that it has run; of a process, all its threads together. */
  readonly cpuTimeUs: number;
  /** Soft RLIMIT_NPROC. */
  readonly nprocLimit: number;
}

/** As in ps(1). */
export type PsState = "R" | "S" | "T" | "Z";

/** What to list. */
export interface PsOptions {
  /**
   * A line for each thread, too, after its process, and a process's CPU time is its first thread's
   * alone. As `ps -eL`. Default false.
   */
  readonly threads?: boolean;
}

const PF_NAMES = Object.entries({
  PF_IO_WORKER,
  PF_FORKNOEXEC,
  PF_USER_WORKER,
  PF_NOFREEZE,
  PF_KTHREAD,
});

/**
 * Every process, each followed by those it has made, oldest first. As in ps(1) threads of a process
 * have no line unless asked for; the merge's vhost workers are processes and have one.
 */
export function psRows(kernel: Kernel, options: PsOptions = {}): PsRow[] {
  checkNames("ps", Object(options), ["threads"]);
  const { threads = false } = options;
  return [kernel.init, kernel.kthreadd].flatMap((root) => subtree(root, 0, threads));
}

function subtree(task: Task, depth: number, threads: boolean): PsRow[] {
  const others = threads ? [...task.signal.threads].filter((thread) => thread !== task) : [];
  return [
    { ...row(task, depth), cpuTimeUs: threads ? task.cpuTimeUs : task.signal.cpuTimeUs },
    ...others.map((thread) => row(thread, depth + 1)),
    // A child of another thread of the process is listed with the process's.
    ...[task, ...others].flatMap(({ children }) =>
      [...children].flatMap((child) => subtree(child, depth + 1, threads)),
    ),
  ];
}

function row(task: Task, depth: number): PsRow {
  const { pid, tgid, comm, flags, parent, cred, cgroup, signal } = task;
  return {
    depth,
    pid,
    tgid,
    ppid: parent.tgid,
    comm,
    flags,
    flagNames: PF_NAMES.filter(([, bit]) => (flags & bit) !== 0).map(([name]) => name),
    uid: cred.uid,
    cgroup: cgroup.path,
    state: stateLetter(task),
    cpuTimeUs: task.cpuTimeUs,
    nprocLimit: signal.rlimits.NPROC.cur,
  };
}

function stateLetter({ exitState, state }: Task): PsState {
  if (exitState === EXIT_ZOMBIE) return "Z";
  if (state === __TASK_STOPPED) return "T";
  return state === TASK_INTERRUPTIBLE ? "S" : "R";
}
