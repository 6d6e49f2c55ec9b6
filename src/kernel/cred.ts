import { VhostError } from "../spec/errno.js";
import {
  CAP_LAST_CAP,
  CAP_SETGID,
  CAP_SETUID,
  CAP_SYS_ADMIN,
  CAP_SYS_RESOURCE,
  CLONE_NEWUSER,
  CLONE_THREAD,
} from "../spec/sched.js";
import type { Kernel } from "./kernel.js";
import { mustLive, type Task } from "./task.js";

/** Who a task is. Never changed once made: a change of identity is another Cred. Linux: cred. */
export interface Cred {
  /** Real user. Its tasks are what RLIMIT_NPROC counts. */
  readonly uid: number;
  readonly gid: number;
  /** Effective: what is asked about when it acts; saved; for files. */
  readonly euid: number;
  readonly suid: number;
  readonly fsuid: number;
  readonly egid: number;
  readonly sgid: number;
  readonly fsgid: number;
  /** Supplementary groups, ascending. */
  readonly groups: readonly number[];
  /** Effective capabilities, CAP_… numbers. */
  readonly caps: ReadonlySet<number>;
  readonly capPermitted: ReadonlySet<number>;
  readonly capInheritable: ReadonlySet<number>;
  readonly capAmbient: ReadonlySet<number>;
  /** Permitted capabilities stay when the last uid of 0 goes. Linux: SECBIT_KEEP_CAPS. */
  readonly keepCaps: boolean;
  /** Number of the user namespace; 0: the machine's own, where capabilities count for all. */
  readonly userNs: number;
}

/** Every capability: what root has. Linux: CAP_FULL_SET. */
export const CAP_FULL_SET: ReadonlySet<number> = new Set(
  Array.from({ length: CAP_LAST_CAP + 1 }, (_, cap) => cap),
);

/** No capability. Linux: CAP_EMPTY_SET. */
export const NO_CAPS: ReadonlySet<number> = new Set();

/** A user's identity, with one number and one set of capabilities for all purposes. */
export function plainCred(uid: number, gid: number, caps: ReadonlySet<number>): Cred {
  return {
    ...{ uid, euid: uid, suid: uid, fsuid: uid },
    ...{ gid, egid: gid, sgid: gid, fsgid: gid, groups: [] },
    ...{ caps, capPermitted: caps, capInheritable: NO_CAPS, capAmbient: NO_CAPS },
    ...{ keepCaps: false, userNs: 0 },
  };
}

/** How many tasks each real user has, the kernel's own included. Linux: ucounts, RLIMIT_NPROC. */
export class Ucounts {
  readonly #nproc = new Map<number, number>();

  /** Tasks of `uid`, zombies included. */
  nproc(uid: number): number {
    return this.#nproc.get(uid) ?? 0;
  }

  /**
   * Counts one more task of `uid`; the limit is the caller's to test. Linux: inc_rlimit_ucounts().
   */
  inc(uid: number): void {
    this.#nproc.set(uid, this.nproc(uid) + 1);
  }

  /** Counts one task less; forgets a user without tasks. Linux: dec_rlimit_ucounts(). */
  dec(uid: number): void {
    const nproc = this.nproc(uid) - 1;
    if (nproc > 0) this.#nproc.set(uid, nproc);
    else this.#nproc.delete(uid);
  }
}

/** Whether `cred` has the capability over the whole machine. Linux: capable(). */
export const capable = (cred: Cred, cap: number): boolean =>
  cred.userNs === 0 && nsCapable(cred, cap);

/** Whether `cred` has the capability in its own user namespace. Linux: ns_capable(). */
export const nsCapable = (cred: Cred, cap: number): boolean => cred.caps.has(cap);

/**
 * The child's identity: with CLONE_THREAD the very object, else a copy of equal content; with
 * CLONE_NEWUSER in a user namespace of its own, where it has every capability. Side effect: one
 * more task of the user, to be given back if the fork fails. Linux: copy_creds().
 */
export function copyCreds(kernel: Kernel, current: Task, flags: number): Cred {
  const { cred } = current;
  kernel.ucounts.inc(cred.uid);
  if (flags & CLONE_NEWUSER) return createUserNs(kernel, cred);
  return flags & CLONE_THREAD ? cred : { ...cred };
}

/** The identity in a new user namespace: all capabilities, there. Linux: create_user_ns(). */
export function createUserNs(kernel: Kernel, cred: Cred): Cred {
  const caps = CAP_FULL_SET;
  const capSets = { caps, capPermitted: caps, capInheritable: NO_CAPS, capAmbient: NO_CAPS };
  return { ...cred, ...capSets, keepCaps: false, userNs: kernel.nextNs() };
}

/**
 * Gives `task` another identity and moves its count to the new user. No limit is tested here: the
 * new user's applies to the next fork. ESRCH: it has exited. Linux: commit_creds().
 */
export function commitCreds(kernel: Kernel, task: Task, cred: Cred): void {
  mustLive(task);
  kernel.ucounts.inc(cred.uid);
  kernel.ucounts.dec(task.cred.uid);
  task.cred = cred;
}

/**
 * RLIMIT_NPROC, after the new task was counted: EAGAIN when that makes more than the soft limit of
 * the caller's process. Exempt: *real* uid 0, CAP_SYS_RESOURCE, CAP_SYS_ADMIN; nothing else.
 * Linux: is_rlimit_overlimit() in copy_process().
 */
export function checkNproc(kernel: Kernel, current: Task): void {
  const { cred, signal } = current;
  const nproc = kernel.ucounts.nproc(cred.uid);
  const limit = signal.rlimits.NPROC.cur;
  if (nproc <= limit || cred.uid === 0) return;
  if (capable(cred, CAP_SYS_RESOURCE) || capable(cred, CAP_SYS_ADMIN)) return;
  throw new VhostError(
    "EAGAIN",
    `user ${cred.uid} would have ${nproc} tasks, RLIMIT_NPROC is ${limit}: raise it or end a task`,
    { pid: current.pid, uid: cred.uid, nproc, limit },
  );
}

/** The ids that are to change; those left out stay. */
export interface Resuid {
  readonly uid?: number;
  readonly euid?: number;
  readonly suid?: number;
}

/**
 * Changes one task's user ids; capabilities go when the last 0 does, the effective ones with an
 * effective 0. EPERM: to an id it does not have, without CAP_SETUID. Linux: setresuid(),
 * cap_emulate_setxuid().
 */
export function setresuid(kernel: Kernel, current: Task, ids: Resuid): void {
  const old = current.cred;
  const { uid, euid, suid } = { uid: old.uid, euid: old.euid, suid: old.suid, ...ids };
  mustMayBecome(current, [old.uid, old.euid, old.suid], [uid, euid, suid], CAP_SETUID);
  commitCreds(kernel, current, withRootCaps(old, { ...old, uid, euid, suid, fsuid: euid }));
}

/**
 * Changes all of one task's group ids. EPERM: to one it does not have, without CAP_SETGID. Linux:
 * setresgid().
 */
export function setresgid(kernel: Kernel, current: Task, gid: number): void {
  const old = current.cred;
  mustMayBecome(current, [old.gid, old.egid, old.sgid], [gid], CAP_SETGID);
  commitCreds(kernel, current, { ...old, gid, egid: gid, sgid: gid, fsgid: gid });
}

/** Changes one task's further groups. EPERM without CAP_SETGID. Linux: setgroups(). */
export function setgroups(kernel: Kernel, current: Task, groups: readonly number[]): void {
  mustMayBecome(current, [], groups, CAP_SETGID);
  const ascending = [...groups].sort((a, b) => a - b);
  commitCreds(kernel, current, { ...current.cred, groups: ascending });
}

/**
 * Changes one task's capabilities. EPERM: a permitted one that it has not, or an effective one
 * that is not permitted. Linux: capset().
 */
export function capset(
  kernel: Kernel,
  current: Task,
  { effective, permitted }: Record<"effective" | "permitted", Iterable<number>>,
): void {
  const caps = new Set(effective);
  const capPermitted = new Set(permitted);
  if (!isWithin(capPermitted, current.cred.capPermitted) || !isWithin(caps, capPermitted)) {
    throw new VhostError("EPERM", "capabilities can only be given up", { pid: current.pid });
  }
  commitCreds(kernel, current, { ...current.cred, caps, capPermitted });
}

const isWithin = (some: ReadonlySet<number>, all: ReadonlySet<number>): boolean =>
  [...some].every((cap) => all.has(cap));

function withRootCaps(old: Cred, cred: Cred): Cred {
  const hasRoot = ({ uid, euid, suid }: Cred) => [uid, euid, suid].includes(0);
  let { caps, capPermitted, capAmbient } = cred;
  if (hasRoot(old) && !hasRoot(cred)) {
    capAmbient = NO_CAPS;
    if (!cred.keepCaps) caps = capPermitted = NO_CAPS;
  }
  if (old.euid === 0 && cred.euid !== 0) caps = NO_CAPS;
  if (old.euid !== 0 && cred.euid === 0) caps = capPermitted;
  return { ...cred, caps, capPermitted, capAmbient };
}

function mustMayBecome(
  { cred, pid }: Task,
  own: readonly number[],
  ids: readonly number[],
  cap: number,
): void {
  if (nsCapable(cred, cap) || (own.length > 0 && ids.every((id) => own.includes(id)))) return;
  throw new VhostError("EPERM", `another identity needs capability ${cap}`, { pid, ids });
}
