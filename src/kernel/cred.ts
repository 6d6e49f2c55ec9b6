import { VhostError } from "../spec/errno.js";
import { CAP_SYS_ADMIN, CAP_SYS_RESOURCE, CLONE_THREAD } from "../spec/sched.js";
import type { Kernel } from "./kernel.js";
import { mustLive, type Task } from "./task.js";

/** Who a task is. Never changed once made: a change of identity is another Cred. Linux: cred. */
export interface Cred {
  /** Real user. Its tasks are what RLIMIT_NPROC counts. */
  readonly uid: number;
  readonly gid: number;
  /** Effective capabilities, CAP_… numbers. */
  readonly caps: ReadonlySet<number>;
}

/** Every capability the model tests: what root has. Linux: CAP_FULL_SET. */
export const CAP_FULL_SET: ReadonlySet<number> = new Set([CAP_SYS_ADMIN, CAP_SYS_RESOURCE]);

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

/** Whether `cred` has the capability. Linux: capable(). */
export const capable = (cred: Cred, cap: number): boolean => cred.caps.has(cap);

/**
 * The child's identity: with CLONE_THREAD the very object, else a copy of equal content. Side
 * effect: one more task of the user, to be given back if the fork fails. Linux: copy_creds().
 */
export function copyCreds(kernel: Kernel, current: Task, flags: number): Cred {
  kernel.ucounts.inc(current.cred.uid);
  return flags & CLONE_THREAD ? current.cred : { ...current.cred };
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
