import { VhostError } from "../spec/errno.js";
import { CAP_SYS_RESOURCE } from "../spec/sched.js";
import { capable } from "./cred.js";
import type { Task } from "./task.js";

/**
 * One limit: `cur` is the soft one, which counts; `max` the hard one, how far `cur` may be raised.
 */
export interface Rlimit {
  readonly cur: number;
  readonly max: number;
}

/** What limits are of. Linux: RLIMIT_… */
export type Resource =
  | ("CPU" | "FSIZE" | "DATA" | "STACK" | "CORE" | "RSS" | "NPROC" | "NOFILE")
  | ("MEMLOCK" | "AS" | "LOCKS" | "SIGPENDING" | "MSGQUEUE" | "NICE" | "RTPRIO" | "RTTIME");

/**
 * The limits of a process. NPROC, tasks of its real user, is enforced, and NICE and RTPRIO say how
 * far it may change its scheduling; the others are carried as the rules say, and shown. Infinity:
 * RLIM_INFINITY.
 */
export type Rlimits = Record<Resource, Rlimit>;

/** What pid 0 has on a machine for `threadsMax` tasks. Linux: INIT_RLIMITS, fork_init(). */
export function initRlimits(threadsMax: number): Rlimits {
  const both = (limit: number): Rlimit => ({ cur: limit, max: limit });
  const max = Number.POSITIVE_INFINITY;
  const tasks = both(Math.floor(threadsMax / 2));
  const none = both(max);
  return {
    ...{ CPU: none, FSIZE: none, DATA: none, STACK: { cur: 2 ** 23, max }, CORE: { cur: 0, max } },
    ...{ RSS: none, NPROC: tasks, NOFILE: { cur: 1024, max: 4096 }, MEMLOCK: both(2 ** 23) },
    ...{ AS: none, LOCKS: none, SIGPENDING: tasks, MSGQUEUE: both(819200), NICE: both(0) },
    ...{ RTPRIO: both(0), RTTIME: none },
  };
}

/**
 * Sets a limit of `task`'s process as `current` asks. It counts from the next test on; threads
 * share it, children made before keep theirs. EINVAL: not whole numbers of 0 or more (or Infinity),
 * or `cur` > `max`. EPERM: another user's process, or `max` raised, without CAP_SYS_RESOURCE.
 * Linux: prlimit64(), do_prlimit().
 */
export function doPrlimit(
  current: Task,
  task: Task,
  resource: keyof Rlimits,
  { cur, max }: Rlimit,
): void {
  checkRlimit({ cur, max }, resource);
  const facts = { pid: task.pid, resource, cur, max };
  const privileged = capable(current.cred, CAP_SYS_RESOURCE);
  if (!privileged && current.cred.uid !== task.cred.uid) {
    throw new VhostError("EPERM", "another user's limits: needs CAP_SYS_RESOURCE", facts);
  }
  if (!privileged && max > task.signal.rlimits[resource].max) {
    throw new VhostError("EPERM", "to raise a hard limit needs CAP_SYS_RESOURCE", facts);
  }
  task.signal.rlimits[resource] = { cur, max };
}

/** EINVAL unless `cur` ≤ `max`, each a whole number from 0 up, or Infinity. */
export function checkRlimit(limit: Rlimit, resource = "RLIMIT"): void {
  const { cur, max } = limit ?? {};
  if (isLimit(cur) && isLimit(max) && cur <= max) return;
  const message = `${resource}: a limit is a number or { cur, max }, cur ≤ max, from 0 to Infinity`;
  throw new VhostError("EINVAL", message, { resource, cur, max });
}

const isLimit = (limit: number): boolean =>
  limit === Number.POSITIVE_INFINITY || (Number.isSafeInteger(limit) && limit >= 0);
