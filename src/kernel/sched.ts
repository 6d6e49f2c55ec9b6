import { VhostError } from "../spec/errno.js";
import {
  CAP_SYS_NICE,
  PF_NO_SETAFFINITY,
  SCHED_BATCH,
  SCHED_DEADLINE,
  SCHED_FIFO,
  SCHED_IDLE,
  SCHED_NORMAL,
  SCHED_RR,
} from "../spec/sched.js";
import { capable } from "./cred.js";
import type { Task } from "./task.js";

/** How a task is scheduled. A child has a copy: later changes are not followed. */
export interface Sched {
  /** SCHED_… number. */
  policy: number;
  /** -20 to 19. Linux: static_prio. */
  nice: number;
  /** 1 to 99 for FIFO and RR, else 0. */
  rtPriority: number;
  /** Children begin as ordinary tasks. Linux: SCHED_RESET_ON_FORK. */
  resetOnFork: boolean;
  /** How much later than asked it may be woken, in nanoseconds. Linux: timer_slack_ns. */
  timerSlackNs: number;
  /** Class (0: none) times 8192, and level, of its input and output. Linux: ioprio. */
  ioprio: number;
  /** Numbers of the CPUs it may run on, ascending. Linux: cpus_mask. */
  cpus: readonly number[];
}

/** Linux: valid_policy(). */
const POLICIES: readonly number[] = [
  ...[SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE, SCHED_FIFO, SCHED_RR, SCHED_DEADLINE],
];

/** A policy with a priority of its own. */
const isRealTime = (policy: number): boolean => policy === SCHED_FIFO || policy === SCHED_RR;

/** EAGAIN: a deadline task without reset-on-fork makes no tasks. Linux: sched_fork(). */
export function schedFork({ sched, pid }: Task): Sched {
  if (!sched.resetOnFork) {
    if (sched.policy !== SCHED_DEADLINE) return { ...sched };
    throw new VhostError("EAGAIN", "a deadline task cannot fork: set reset-on-fork", { pid });
  }
  const special = isRealTime(sched.policy) || sched.policy === SCHED_DEADLINE;
  return {
    policy: special ? SCHED_NORMAL : sched.policy,
    nice: special ? 0 : Math.max(sched.nice, 0),
    rtPriority: 0,
    resetOnFork: false,
    timerSlackNs: sched.timerSlackNs,
    ioprio: sched.ioprio,
    cpus: sched.cpus,
  };
}

/**
 * Sets the policy of one task. EINVAL: no policy; a priority outside 1 to 99 for FIFO and RR, or
 * one for another policy. EPERM, without CAP_SYS_NICE: another user's task; DEADLINE; FIFO or RR
 * where RLIMIT_RTPRIO does not allow it; reset-on-fork taken back. Linux: sched_setscheduler(),
 * user_check_sched_setscheduler().
 */
export function schedSetscheduler(
  current: Task,
  task: Task,
  { policy, rtPriority = 0, resetOnFork = false }: Partial<Sched> & { policy: number },
): void {
  const facts = { pid: task.pid, policy, rtPriority };
  if (!POLICIES.includes(policy)) throw new VhostError("EINVAL", "no such policy", facts);
  const [least, most] = isRealTime(policy) ? [1, 99] : [0, 0];
  if (rtPriority < least || rtPriority > most) {
    throw new VhostError("EINVAL", `a priority of that policy is ${least} to ${most}`, facts);
  }
  mustOwn(current, task);
  const isRaised = isRealTime(policy) && !mayRaise(task, policy, rtPriority);
  const isTakenBack = task.sched.resetOnFork && !resetOnFork;
  const special = isRaised || isTakenBack || policy === SCHED_DEADLINE;
  if (special && !capable(current.cred, CAP_SYS_NICE)) {
    throw new VhostError("EPERM", "that policy needs CAP_SYS_NICE", facts);
  }
  Object.assign(task.sched, { policy, rtPriority, resetOnFork });
}

/** Whether RLIMIT_RTPRIO of the task allows the priority, or it has it already. */
function mayRaise({ sched, signal }: Task, policy: number, rtPriority: number): boolean {
  const limit = signal.rlimits.RTPRIO.cur;
  if (policy !== sched.policy && limit === 0) return false;
  return rtPriority <= sched.rtPriority || rtPriority <= limit;
}

/**
 * Sets one task's nice value, drawn to -20 to 19. EPERM: another user's task; EACCES: a lower
 * value than RLIMIT_NICE allows, without CAP_SYS_NICE. Linux: setpriority(PRIO_PROCESS),
 * set_one_prio().
 */
export function setUserNice(current: Task, task: Task, nice: number): void {
  const value = Math.max(-20, Math.min(19, nice));
  mustOwn(current, task);
  const isAllowed = value >= task.sched.nice || 20 - value <= task.signal.rlimits.NICE.cur;
  if (!isAllowed && !capable(current.cred, CAP_SYS_NICE)) {
    throw new VhostError("EACCES", "to lower a nice value needs CAP_SYS_NICE", { nice });
  }
  task.sched.nice = value;
}

/**
 * Sets where one task may run. EINVAL: nowhere, or it is bound to its CPU. EPERM: another user's.
 * Linux: sched_setaffinity().
 */
export function schedSetaffinity(current: Task, task: Task, cpus: readonly number[]): void {
  if (task.flags & PF_NO_SETAFFINITY) {
    throw new VhostError("EINVAL", "it stays where it is", { pid: task.pid });
  }
  const online = [...new Set(cpus)].filter((cpu) => ONLINE_CPUS.includes(cpu));
  if (online.length === 0) throw new VhostError("EINVAL", "no such CPU is online", { cpus });
  mustOwn(current, task);
  task.sched.cpus = online.sort((a, b) => a - b);
}

/** The machine's. */
export const ONLINE_CPUS: readonly number[] = [0, 1];

/** That of pid 0. */
export const INIT_SCHED: Sched = {
  ...{ policy: SCHED_NORMAL, nice: 0, rtPriority: 0, resetOnFork: false },
  ...{ timerSlackNs: 50_000, ioprio: 0, cpus: ONLINE_CPUS },
};

/** EPERM unless its user's, or CAP_SYS_NICE. Linux: check_same_owner(). */
function mustOwn({ cred }: Task, task: Task): void {
  if (cred.euid === task.cred.euid || cred.euid === task.cred.uid) return;
  if (capable(cred, CAP_SYS_NICE)) return;
  throw new VhostError("EPERM", "another user's task: needs CAP_SYS_NICE", { pid: task.pid });
}
