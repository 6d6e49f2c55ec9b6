// What /proc shows of a task, from the model's state alone.

import type { Kernel } from "#dist/kernel/kernel.js";
import type { Rlimit, Rlimits } from "#dist/kernel/rlimit.js";
import type { Task } from "#dist/kernel/task.js";
import * as sched from "#dist/spec/sched.js";
import { SIG_ALL, sigmask } from "#dist/spec/signal.js";
import { SyscallError } from "./errors.js";

/** Set by the loader of a program whose addresses are random; harmless otherwise. */
export const PF_RANDOMIZE = 0x400000;

const FLAG_NAMES: readonly (readonly [number, string])[] = [
  [sched.PF_IO_WORKER, "IO_WORKER"],
  [sched.PF_WQ_WORKER, "WQ_WORKER"],
  [sched.PF_FORKNOEXEC, "FORKNOEXEC"],
  [sched.PF_NPROC_EXCEEDED, "NPROC_EXCEEDED"],
  [sched.PF_USER_WORKER, "USER_WORKER"],
  [sched.PF_NOFREEZE, "NOFREEZE"],
  [sched.PF_KTHREAD, "KTHREAD"],
  [PF_RANDOMIZE, "RANDOMIZE"],
  [sched.PF_NO_SETAFFINITY, "NO_SETAFFINITY"],
];

const hex16 = (set: bigint): string => set.toString(16).padStart(16, "0");
const capHex = (caps: ReadonlySet<number>): string =>
  hex16([...caps].reduce((set, cap) => set | (1n << BigInt(cap)), 0n));

/** How a reader in another user namespace, to which nobody is mapped, sees an id. */
const OVERFLOW_ID = 65534;
const seenBy = (reader: Task, id: number): number => (reader.cred.userNs === 0 ? id : OVERFLOW_ID);

/** The CPUs as a list: "0-1,3". */
export function cpuList(cpus: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const cpu of cpus) {
    const last = runs.at(-1);
    if (last && last[1] === cpu - 1) last[1] = cpu;
    else runs.push([cpu, cpu]);
  }
  return runs.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(",");
}

function handlers({ sighand }: Task, isIgnored: boolean): bigint {
  if (sighand.ignoreAll) return isIgnored ? SIG_ALL : 0n;
  let set = 0n;
  for (const [sig, action] of sighand.actions) {
    if ((action === "SIG_IGN") === isIgnored) set |= sigmask(sig);
  }
  return set;
}

/** The letter of a task that neither acts nor is held in a call: it sleeps. */
export function stateLetter(task: Task, isReader: boolean): string {
  if (task.exitState !== 0) return "Z";
  if (task.tracedStop !== 0) return "t";
  if (!task.sighand.ignoreAll && task.signal.stopped) return "T";
  if (task.inKernel && !isReader) return "D";
  return isReader ? "R" : "S";
}

/** Entries that there is room for: 64, then powers of two. Linux: alloc_fdtable(). */
function tableSize(fds: Iterable<number>): number {
  const needed = Math.max(0, ...fds) + 1;
  return needed <= 64 ? 64 : Math.max(128, 2 ** Math.ceil(Math.log2(needed)));
}

/** /proc/TID/status: its lines, by name. `mapped`: bytes beside its first memory. */
export function status(task: Task, reader: Task, mapped = 0): Record<string, string> {
  const { cred, signal, confinement } = task;
  const ids = (...list: number[]) => list.map((id) => seenBy(reader, id)).join(" ");
  return {
    Name: task.comm,
    Umask: task.fs.umask.toString(8).padStart(4, "0"),
    State: stateLetter(task, task === reader),
    Tgid: `${task.tgid}`,
    Pid: `${task.pid}`,
    PPid: `${task.parent.tgid}`,
    TracerPid: `${task.tracer?.pid ?? 0}`,
    Uid: ids(cred.uid, cred.euid, cred.suid, cred.fsuid),
    Gid: ids(cred.gid, cred.egid, cred.sgid, cred.fsgid),
    FDSize: task.files === null ? "0" : `${tableSize(task.files.fds.keys())}`,
    Groups: ids(...cred.groups),
    Kthread: task.flags & sched.PF_KTHREAD ? "1" : "0",
    ...(task.mm === null
      ? {}
      : { VmSize: `${(task.mm.memory.buffer.byteLength + mapped) / 1024} kB` }),
    Threads: `${signal.threads.size}`,
    SigPnd: hex16(task.pending),
    ShdPnd: hex16(signal.sharedPending),
    SigBlk: hex16(task.blocked),
    SigIgn: hex16(handlers(task, true)),
    SigCgt: hex16(handlers(task, false)),
    CapInh: capHex(cred.capInheritable),
    CapPrm: capHex(cred.capPermitted),
    CapEff: capHex(cred.caps),
    CapBnd: capHex(cred.capBset),
    CapAmb: capHex(cred.capAmbient),
    NoNewPrivs: confinement.noNewPrivs ? "1" : "0",
    Seccomp: `${confinement.mode}`,
    Seccomp_filters: `${confinement.filters}`,
    Cpus_allowed_list: cpuList(task.sched.cpus),
  };
}

/** /proc/TID/stat, the fields that the model has. */
export interface Stat {
  pid: number;
  comm: string;
  state: string;
  ppid: number;
  pgrp: number;
  session: number;
  /** PF_ bits. */
  flags: number;
  /** Their names, the lowest bit first, but RANDOMIZE last. */
  flagNames: string[];
  priority: number;
  nice: number;
  num_threads: number;
  exit_signal: number;
  rt_priority: number;
  policy: number;
  /** Microseconds that it has run. */
  cpuTimeUs: number;
}

/** What `stat` shows of `task`. */
export function stat(task: Task, reader: Task): Stat {
  const { policy, nice, rtPriority } = task.sched;
  return {
    pid: task.pid,
    comm: task.comm,
    state: stateLetter(task, task === reader),
    ppid: task.parent.tgid,
    pgrp: task.signal.pgrp,
    session: task.signal.session,
    flags: task.flags,
    flagNames: FLAG_NAMES.filter(([bit]) => task.flags & bit).map(([, name]) => name),
    priority: rtPriority > 0 ? -1 - rtPriority : 20 + nice,
    nice,
    num_threads: task.signal.threads.size,
    exit_signal: task.exitSignal,
    rt_priority: rtPriority,
    policy,
    cpuTimeUs: task.cpuTimeUs,
  };
}

/** Those without one have "". */
const UNITS: Partial<Record<keyof Rlimits, string>> = {
  ...{ CPU: "seconds", NPROC: "processes", NOFILE: "files", SIGPENDING: "signals" },
  ...{ LOCKS: "locks", RTTIME: "us", NICE: "", RTPRIO: "" },
};

/** /proc/TID/limits: "soft hard unit", by resource. */
export function limits({ signal }: Task): Record<keyof Rlimits, string> {
  const text = (value: number) => (Number.isFinite(value) ? `${value}` : "unlimited");
  const rows = Object.entries(signal.rlimits).map(([name, { cur, max }]: [string, Rlimit]) => [
    name,
    `${text(cur)} ${text(max)} ${UNITS[name as keyof Rlimits] ?? "bytes"}`.trim(),
  ]);
  return Object.fromEntries(rows);
}

/** /proc/TID/ns/…: the links, by name. */
export function namespaces({ nsproxy, pidNs, cred }: Task): Record<string, string> {
  const { pidForChildren, ...rest } = nsproxy;
  const all = { ...rest, pid: pidNs, pid_for_children: pidForChildren, user: cred.userNs };
  return Object.fromEntries(Object.entries(all).map(([name, ns]) => [name, `${name}:[${ns}]`]));
}

/** The task with that tid, zombies included. ENOENT: none. */
export function taskOf(kernel: Kernel, tid: number): Task {
  const task = kernel.task(tid);
  if (task === undefined) throw new SyscallError("ENOENT");
  return task;
}
