import { VhostError } from "../spec/errno.js";
import { checkNames } from "../spec/options.js";
import { SIGCHLD } from "../spec/sched.js";
import { cgroupAttachTask, cgroupNames } from "./cgroup.js";
import { CAP_FULL_SET, type Cred, commitCreds, plainCred } from "./cred.js";
import { beginNewExec } from "./exec.js";
import { copyProcess, wakeUpNewTask } from "./fork.js";
import type { Kernel } from "./kernel.js";
import { checkMemoryBytes, MEMORY_BYTES_DEFAULT } from "./mm.js";
import { checkRlimit, doPrlimit, initRlimits, type Rlimit, type Rlimits } from "./rlimit.js";
import type { Task } from "./task.js";

/** Who a new process is to be. What is left out, it has from init. */
export interface SpawnOptions {
  /** Its number, as one that lives elsewhere has it; default: the next that is free. */
  readonly pid?: number;
  /** Name of the program, cut to 15 bytes; default "a.out". */
  readonly comm?: string;
  /** User, 0 to 2^32 - 2; default 0. */
  readonly uid?: number;
  /** Group, 0 to 2^32 - 2; default 0. */
  readonly gid?: number;
  /** CAP_… numbers; default: all for uid 0, none for others. */
  readonly caps?: Iterable<number>;
  /**
   * A number is soft and hard limit in one. They hold for the forks of this process, not for its
   * own.
   */
  readonly rlimits?: { readonly [resource in keyof Rlimits]?: number | Rlimit };
  /** Absolute path like "/tenants/a", made on demand; default "/". */
  readonly cgroup?: string;
  /** Size of its memory, in bytes: a multiple of 64 KiB up to 4 GiB; default 16 MiB. */
  readonly memoryBytes?: number;
}

/**
 * Makes a user process as a service manager does: fork from init, join the cgroup (which no
 * pids.max holds up), become the user, execute the program in a fresh mm; then init sets the
 * limits.
 *
 * EINVAL: an option out of range; EEXIST: `pid` is taken; EAGAIN: threads-max, pid_max; nothing was
 * done. ENOMEM: no room
 * for the mm; the process is gone again, a cgroup made for it stays.
 */
export function spawnProcess(kernel: Kernel, options: SpawnOptions): Task {
  checkOptions(options);
  const { pid } = options;
  const setTid = pid === undefined ? {} : { setTid: pid };
  const task = copyProcess(kernel, kernel.init, { flags: 0, exitSignal: SIGCHLD, ...setTid });
  try {
    cgroupAttachTask(kernel.cgroup(options.cgroup ?? "/"), task);
    commitCreds(kernel, task, makeCred(options));
    const { comm = "a.out", memoryBytes = MEMORY_BYTES_DEFAULT } = options;
    beginNewExec(kernel, task, { comm, memoryBytes });
    task.signal.pgrp = task.pid; // a session of its own
    task.signal.session = task.pid;
    for (const [name, limit] of limitsOf(options)) doPrlimit(kernel.init, task, name, limit);
  } catch (error) {
    kernel.exitTask(task, 1 << 8);
    throw error;
  }
  wakeUpNewTask(task);
  return task;
}

/** Every name in `SpawnOptions`. */
const OPTIONS = ["pid", "comm", "uid", "gid", "caps", "rlimits", "cgroup", "memoryBytes"];

function checkOptions(options: SpawnOptions): void {
  checkNames("spawn", options, OPTIONS);
  checkNames("rlimits", options.rlimits ?? {}, Object.keys(initRlimits(0)));
  cgroupNames(options.cgroup ?? "/");
  checkMemoryBytes(options.memoryBytes ?? MEMORY_BYTES_DEFAULT);
  for (const [name, limit] of limitsOf(options)) checkRlimit(limit, name);
  checkIdentity(options);
}

function checkIdentity(options: SpawnOptions): void {
  if (typeof (options.comm ?? "") !== "string") {
    throw new VhostError("EINVAL", "comm is a name, a string", { comm: options.comm });
  }
  for (const cap of options.caps ?? []) {
    if (CAP_FULL_SET.has(cap)) continue;
    throw new VhostError("EINVAL", "caps are numbers of capabilities, CAP_…, 0 to 40", { cap });
  }
  for (const id of [options.uid ?? 0, options.gid ?? 0]) {
    if (Number.isInteger(id) && id >= 0 && id < 0xffffffff) continue;
    throw new VhostError("EINVAL", "a uid or gid is a whole number from 0 to 2^32 - 2", { id });
  }
}

function limitsOf({ rlimits = {} }: SpawnOptions): [keyof Rlimits, Rlimit][] {
  return Object.entries(rlimits).map(([name, limit]) => [
    name as keyof Rlimits,
    typeof limit === "number" ? { cur: limit, max: limit } : limit,
  ]);
}

function makeCred({ uid = 0, gid = 0, caps }: SpawnOptions): Cred {
  return plainCred(uid, gid, new Set(caps ?? (uid === 0 ? CAP_FULL_SET : [])));
}
