import { VhostError } from "../spec/errno.js";
import {
  CAP_LAST_CAP,
  CAP_SETGID,
  CAP_SETUID,
  CAP_SYS_ADMIN,
  CAP_SYS_RESOURCE,
  CLONE_NEWUSER,
  CLONE_THREAD,
  PF_NPROC_EXCEEDED,
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
  /** Those that a program can have at most. Linux: cap_bset. */
  readonly capBset: ReadonlySet<number>;
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
    ...{ capBset: CAP_FULL_SET, keepCaps: false, userNs: 0 },
  };
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
  const cred = credOf(kernel, current, flags);
  kernel.ucounts.inc(cred);
  return cred;
}

function credOf(kernel: Kernel, current: Task, flags: number): Cred {
  if (flags & CLONE_NEWUSER) return createUserNs(kernel, current);
  return flags & CLONE_THREAD ? current.cred : { ...current.cred };
}

/**
 * The identity of `current` in a new user namespace: all capabilities, there. Its maker's limit
 * holds for all who will be in it. Linux: create_user_ns().
 */
export function createUserNs(kernel: Kernel, { cred, signal }: Task): Cred {
  const userNs = kernel.nextNs();
  const isLimited = cred.uid !== 0 || cred.userNs !== 0; // Linux: enforced_nproc_rlimit()
  kernel.ucounts.addNamespace(userNs, {
    owner: { uid: cred.euid, userNs: cred.userNs },
    nprocMax: isLimited ? signal.rlimits.NPROC.cur : Number.POSITIVE_INFINITY,
  });
  const caps = CAP_FULL_SET;
  const capSets = { caps, capPermitted: caps, capInheritable: NO_CAPS, capAmbient: NO_CAPS };
  return { ...cred, ...capSets, capBset: caps, keepCaps: false, userNs };
}

/**
 * Gives `task` another identity and moves its count to the new user. No limit is tested here: the
 * new user's applies to the next fork. ESRCH: it has exited. Linux: commit_creds().
 */
export function commitCreds(kernel: Kernel, task: Task, cred: Cred): void {
  mustLive(task);
  kernel.ucounts.inc(cred);
  kernel.ucounts.dec(task.cred);
  task.cred = cred;
}

/**
 * RLIMIT_NPROC, after the new task of identity `cred` was counted: EAGAIN when that makes more than
 * the soft limit of the caller's process, or than a user namespace that it is in allows its maker.
 * Exempt: *real* uid 0, CAP_SYS_RESOURCE, CAP_SYS_ADMIN; nothing else. Side effect: the caller may
 * execute again. Linux: is_rlimit_overlimit() in copy_process().
 */
export function checkNproc(kernel: Kernel, current: Task, cred: Cred): void {
  const { signal } = current;
  const nproc = kernel.ucounts.nproc(cred.uid, cred.userNs);
  const limit = signal.rlimits.NPROC.cur;
  const isExempt =
    cred.uid === 0 ||
    capable(current.cred, CAP_SYS_RESOURCE) ||
    capable(current.cred, CAP_SYS_ADMIN);
  if (isExempt || !kernel.ucounts.isOver(cred, limit)) {
    current.flags &= ~PF_NPROC_EXCEEDED;
    return;
  }
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
  const cred = withRootCaps(old, { ...old, uid, euid, suid, fsuid: euid });
  flagNprocExceeded(kernel, current, cred);
  commitCreds(kernel, current, cred);
}

/**
 * A user that has too many tasks before this one joins them may not execute a program. Linux:
 * flag_nproc_exceeded().
 */
function flagNprocExceeded(kernel: Kernel, current: Task, cred: Cred): void {
  if (cred.uid === current.cred.uid) return;
  const isOver = kernel.ucounts.isOver(cred, current.signal.rlimits.NPROC.cur);
  if (isOver && cred.uid !== 0) current.flags |= PF_NPROC_EXCEEDED;
  else current.flags &= ~PF_NPROC_EXCEEDED;
}

/**
 * The identity that `current` has in a new program whose file gives none: root's capabilities, else
 * the ambient ones. EAGAIN: its user had, and still has, too many tasks. Linux:
 * cap_bprm_creds_from_file(), do_execveat_common().
 */
export function execCred(kernel: Kernel, current: Task): Cred {
  const { cred, signal, pid } = current;
  const isFlagged = (current.flags & PF_NPROC_EXCEEDED) !== 0;
  if (isFlagged && kernel.ucounts.isOver(cred, signal.rlimits.NPROC.cur)) {
    throw new VhostError("EAGAIN", "its user has too many tasks to execute", { pid });
  }
  current.flags &= ~PF_NPROC_EXCEEDED;
  const isRoot = cred.userNs === 0 && (cred.uid === 0 || cred.euid === 0);
  const capPermitted = isRoot ? cred.capBset : cred.capAmbient;
  const caps = isRoot && cred.euid !== 0 ? NO_CAPS : capPermitted;
  const ids = { suid: cred.euid, fsuid: cred.euid, sgid: cred.egid, fsgid: cred.egid };
  return { ...cred, ...ids, caps, capPermitted, keepCaps: false };
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
