import { VhostError } from "../spec/errno.js";
import { CAP_SYS_ADMIN, SECCOMP_MODE_FILTER } from "../spec/sched.js";
import { nsCapable } from "./cred.js";
import type { Task } from "./task.js";

/** What a task may no longer gain or call: a snapshot in each task. Linux: seccomp. */
export interface Confinement {
  /** No program gives it more rights. Linux: no_new_privs. */
  readonly noNewPrivs: boolean;
  /** 0, or SECCOMP_MODE_FILTER. */
  readonly mode: number;
  /** How many filters hold. */
  readonly filters: number;
}

/** Nothing is forbidden. */
export const UNCONFINED: Confinement = { noNewPrivs: false, mode: 0, filters: 0 };

/**
 * Adds a filter that lets everything pass: to the caller, and with `tsync` to every thread of its
 * process, vhost workers too. EACCES: neither no_new_privs nor CAP_SYS_ADMIN. Linux:
 * seccomp_set_mode_filter(), seccomp_sync_threads().
 */
export function seccompSetModeFilter(current: Task, { tsync = false } = {}): void {
  const { confinement, cred, pid } = current;
  if (!confinement.noNewPrivs && !nsCapable(cred, CAP_SYS_ADMIN)) {
    throw new VhostError("EACCES", "a filter needs no_new_privs or CAP_SYS_ADMIN", { pid });
  }
  const filters = confinement.filters + 1;
  const filtered = { ...confinement, mode: SECCOMP_MODE_FILTER, filters };
  for (const task of tsync ? current.signal.threads : [current]) task.confinement = filtered;
}
