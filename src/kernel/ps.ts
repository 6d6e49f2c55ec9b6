import {
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

/** One line of ps(1): a process as it was when asked. */
export interface PsRow {
  /** 0 for init and kthreadd, one more for each parent in between. */
  readonly depth: number;
  readonly pid: number;
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
  /** R runs or may run, S sleeps, Z zombie. */
  readonly state: "R" | "S" | "Z";
  /** Soft RLIMIT_NPROC. */
  readonly nprocLimit: number;
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
 * have no line; vhost workers of this epoch are processes and have one.
 */
export function psRows(kernel: Kernel): PsRow[] {
  return [kernel.init, kernel.kthreadd].flatMap((root) => subtree(root, 0));
}

function subtree(task: Task, depth: number): PsRow[] {
  return [row(task, depth), ...[...task.children].flatMap((child) => subtree(child, depth + 1))];
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
    nprocLimit: signal.rlimits.NPROC.cur,
  };
}

function stateLetter({ exitState, state }: Task): "R" | "S" | "Z" {
  if (exitState === EXIT_ZOMBIE) return "Z";
  return state === TASK_INTERRUPTIBLE ? "S" : "R";
}
