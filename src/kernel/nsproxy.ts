import { VhostError } from "../spec/errno.js";
import {
  CAP_SYS_ADMIN,
  CLONE_FILES,
  CLONE_FS,
  CLONE_NEWCGROUP,
  CLONE_NEWIPC,
  CLONE_NEWNET,
  CLONE_NEWNS,
  CLONE_NEWPID,
  CLONE_NEWTIME,
  CLONE_NEWUSER,
  CLONE_NEWUTS,
  CLONE_SIGHAND,
  CLONE_SYSVSEM,
  CLONE_THREAD,
  CLONE_VM,
} from "../spec/sched.js";
import { type Cred, commitCreds, createUserNs, nsCapable } from "./cred.js";
import { unshareFiles } from "./files.js";
import type { Kernel } from "./kernel.js";
import type { Task } from "./task.js";

/** The namespaces of a task, each a number; never changed, replaced as a whole. Linux: nsproxy. */
export interface NsProxy {
  readonly mnt: number;
  readonly uts: number;
  readonly ipc: number;
  readonly net: number;
  readonly cgroup: number;
  readonly time: number;
  /** Where its children get their pids. The task's own never changes. */
  readonly pidForChildren: number;
}

/** Number of the namespaces that a machine boots with. */
const INIT_NS = 0;

/** Those of pid 0. Linux: init_nsproxy. */
export const INIT_NSPROXY: NsProxy = {
  mnt: INIT_NS,
  uts: INIT_NS,
  ipc: INIT_NS,
  net: INIT_NS,
  cgroup: INIT_NS,
  time: INIT_NS,
  pidForChildren: INIT_NS,
};

const NEW: readonly [flag: number, name: keyof NsProxy][] = [
  [CLONE_NEWNS, "mnt"],
  [CLONE_NEWUTS, "uts"],
  [CLONE_NEWIPC, "ipc"],
  [CLONE_NEWNET, "net"],
  [CLONE_NEWCGROUP, "cgroup"],
  [CLONE_NEWTIME, "time"],
  [CLONE_NEWPID, "pidForChildren"],
];
const NEW_ALL = NEW.reduce((flags, [flag]) => flags | flag, 0);

/**
 * The child's namespaces: the caller's, but for those that the flags ask new. EPERM: one without
 * CAP_SYS_ADMIN in the child's user namespace. EINVAL: NEWIPC with SYSVSEM; NEWPID when the caller
 * has unshared that before. `cred`: the child's. Linux: copy_namespaces(), copy_pid_ns().
 */
export function copyNamespaces(kernel: Kernel, current: Task, cred: Cred, flags: number): NsProxy {
  if ((flags & NEW_ALL) === 0) return current.nsproxy;
  mustAdminister(cred, flags);
  if (flags & CLONE_NEWIPC && flags & CLONE_SYSVSEM) {
    throw new VhostError("EINVAL", "CLONE_NEWIPC does not go with CLONE_SYSVSEM", { flags });
  }
  return renewed(kernel, current, flags);
}

/**
 * Takes one task out of what it shares: namespaces, directories and umask (NEWNS and NEWUSER bring
 * that along), open files. NEWUSER comes first and gives it every capability there. Who shares
 * memory, handlers or a process by way of threads (vhost workers are some) is refused those and
 * NEWUSER: EINVAL; so is another flag, and NEWPID a second time. EPERM: a namespace without
 * CAP_SYS_ADMIN. Linux: unshare().
 */
export function unshare(kernel: Kernel, current: Task, flags: number): void {
  if ((flags & ~UNSHARE_ALL) !== 0) {
    throw new VhostError("EINVAL", "that is not unshared", { flags });
  }
  if ((flags & UNSHARE_ALONE) !== 0 && current.signal.threads.size > 1) {
    throw new VhostError("EINVAL", "a process of several threads keeps that", { flags });
  }
  if (flags & CLONE_NEWUSER) commitCreds(kernel, current, createUserNs(kernel, current));
  if (flags & NEW_ALL) {
    mustAdminister(current.cred, flags);
    current.nsproxy = renewed(kernel, current, flags);
  }
  if (flags & (CLONE_FS | CLONE_NEWNS | CLONE_NEWUSER)) current.fs = { ...current.fs };
  if (flags & CLONE_FILES) current.files = unshareFiles(current.files);
}

const UNSHARE_ALONE = CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
const UNSHARE_ALL = NEW_ALL | UNSHARE_ALONE | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM;

function renewed(kernel: Kernel, { nsproxy: old, pidNs, pid }: Task, flags: number): NsProxy {
  if (flags & CLONE_NEWPID && old.pidForChildren !== pidNs) {
    throw new VhostError("EINVAL", "its children have a pid namespace already", { pid });
  }
  const fresh = NEW.filter(([flag]) => flags & flag).map(([, name]) => [name, kernel.nextNs()]);
  return { ...old, ...Object.fromEntries(fresh) };
}

function mustAdminister(cred: Cred, flags: number): void {
  if (nsCapable(cred, CAP_SYS_ADMIN)) return;
  throw new VhostError("EPERM", "a new namespace needs CAP_SYS_ADMIN", { uid: cred.uid, flags });
}
