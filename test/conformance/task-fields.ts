// Everything that /proc says of one task, seen by the owner.

import { attempt, type Proc, type Scene, type Seen, type Value } from "./machine/index.js";

/** What the program that recorded had done before: its name, what it ignores, six open files. */
export function prepare({ main }: Scene): Proc {
  main.prctl("PR_SET_NAME", "orc_task");
  main.sigaction("SIGPIPE", "SIG_IGN");
  for (let fd = 0; fd < 6; fd++) main.open("/dev/null");
  return main;
}

/** The tid of the thread of `owner` whose name begins so. */
export const threadNamed = (owner: Proc, name: string): number | undefined =>
  owner.tasks().find((tid) => owner.stat(tid).comm.startsWith(name));

const STATUS = ["Kthread", "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapAmb"] as const;
const STATUS_MORE = ["NoNewPrivs", "Seccomp", "SigBlk", "SigIgn", "SigCgt", "SigPnd"] as const;
const STATUS_LAST = ["FDSize", "Threads", "Cpus_allowed_list", "TracerPid", "Umask"] as const;

/** A task's fields; `undefined` where no such task was found. */
export function taskFields(owner: Proc, tid: number): Seen {
  const status = owner.status(tid);
  const own = owner.status(owner.tid);
  const stat = owner.stat(tid);
  const mine = owner.stat(owner.tid);
  const names = [...STATUS, ...STATUS_MORE, ...STATUS_LAST];
  const lines = Object.fromEntries(names.map((name): [string, Value] => [name, status[name]]));
  return {
    comm: stat.comm.replace(new RegExp(`-${owner.pid}$`), "-<tgid>"),
    tgid_is_owner: status.Tgid === `${owner.pid}`,
    ppid_is_owners_ppid: status.PPid === own.PPid,
    PPid: stat.ppid,
    ...lines,
    "has_mm(VmSize line)": "VmSize" in status,
    flags_without_randomize_superpriv: `0x${(stat.flags & ~0x400100).toString(16)}`,
    flags_decoded: stat.flagNames.join("|"),
    nice: stat.nice,
    priority: stat.priority,
    policy: stat.policy,
    rt_priority: stat.rt_priority,
    exit_signal: stat.exit_signal,
    same_pgrp: stat.pgrp === mine.pgrp,
    same_session: stat.session === mine.session,
    state: stat.state,
    ...elsewhere(owner, tid),
  };
}

function elsewhere(owner: Proc, tid: number): Seen {
  const ns = owner.ns(tid);
  const own = owner.ns(owner.tid);
  const pending = [owner.limits(tid).SIGPENDING, owner.limits(owner.tid).SIGPENDING];
  return {
    fd_entries: owner.fdCount(tid),
    owner_fd_entries: owner.fdCount(owner.tid),
    cgroup: owner.cgroupOf(tid),
    limit_sigpending_same_as_owner: pending[0] === pending[1] ? "yes" : "no",
    same_cwd: owner.cwd(tid) === owner.cwd(owner.tid),
    same_exe: owner.hasSameExe(tid),
    same_mnt_ns: ns.mnt === own.mnt,
    same_pid_ns: ns.pid === own.pid,
    listed_in_proc_readdir: owner.processes().includes(tid),
    "reachable_as_/proc/TID": attempt(() => owner.stat(tid)) === "OK",
    wchan: owner.wchan(tid),
  };
}
