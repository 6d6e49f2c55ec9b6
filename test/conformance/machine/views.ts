// What a thread can read of itself and of others.

import type { Rlimits } from "#dist/kernel/rlimit.js";
import type { Task } from "#dist/kernel/task.js";
import { Descriptors } from "./descriptors.js";
import { SyscallError } from "./errors.js";
import * as procfs from "./procfs.js";

/** What kcmp(2) can compare. */
const KCMP = {
  KCMP_VM: ({ mm }: Task) => mm,
  KCMP_FILES: ({ files }: Task) => files,
  KCMP_FS: ({ fs }: Task) => fs,
  KCMP_SIGHAND: ({ sighand }: Task) => sighand,
};

/** The half of a thread that only looks. */
export abstract class Views extends Descriptors {
  /** Number of its process. */
  get pid(): number {
    return this.task.tgid;
  }

  /** Tasks on the machine, which threads-max limits. */
  get nrThreads(): number {
    return this.kernel.tasks().length;
  }

  /** Reads /proc/TID/oom_score_adj. Throws ENOENT. */
  oomScoreAdj(tid: number): number {
    return procfs.taskOf(this.kernel, tid).signal.oomScoreAdj;
  }

  /** Lines of /proc/TID/status by name. Throws ENOENT. */
  status(tid: number): Record<string, string> {
    const task = procfs.taskOf(this.kernel, tid);
    const mapped = (task.mm && this.machine.mapped.get(task.mm)) ?? 0;
    return procfs.status(task, this.task, mapped);
  }

  /** Fields of /proc/TID/stat. Throws ENOENT. */
  stat(tid: number): procfs.Stat {
    return procfs.stat(procfs.taskOf(this.kernel, tid), this.task);
  }

  /** /proc/TID/limits: "soft hard unit" by resource. Throws ENOENT. */
  limits(tid: number): Record<keyof Rlimits, string> {
    return procfs.limits(procfs.taskOf(this.kernel, tid));
  }

  /** Links of /proc/TID/ns by name. Throws ENOENT. */
  ns(tid: number): Record<string, string> {
    return procfs.namespaces(procfs.taskOf(this.kernel, tid));
  }

  /** /proc/TID/cgroup, its line. Throws ENOENT. */
  cgroupOf(tid: number): string {
    return `0::${procfs.taskOf(this.kernel, tid).cgroup.path}`;
  }

  /** CLOCK_PROCESS_CPUTIME_ID, in microseconds. */
  processCpuTimeUs(): number {
    return this.task.signal.cpuTimeUs;
  }

  /** Entries of /proc/TID/fd. Throws ENOENT. */
  fdCount(tid: number): number {
    return procfs.taskOf(this.kernel, tid).files?.fds.size ?? 0;
  }

  /** Where /proc/TID/cwd leads. Throws ENOENT. */
  cwd(tid: number): string {
    return procfs.taskOf(this.kernel, tid).fs.cwd;
  }

  /** Whether /proc/TID/exe leads to the same program as this thread's. */
  hasSameExe(tid: number): boolean {
    const { mm } = procfs.taskOf(this.kernel, tid);
    const { exes } = this.machine;
    if (mm === null || this.task.mm === null) return false;
    return (exes.get(mm) ?? mm) === (exes.get(this.task.mm) ?? this.task.mm);
  }

  /** /proc/TID/timerslack_ns. Throws ENOENT. */
  timerSlackNs(tid: number): number {
    return procfs.taskOf(this.kernel, tid).sched.timerSlackNs;
  }

  /** kcmp(2): 0 where both tasks have the very same one, else 1. Throws ESRCH. */
  kcmp(tid1: number, tid2: number, type: keyof typeof KCMP): number {
    return this.call(() => {
      const [one, other] = [tid1, tid2].map((tid) => this.kernel.task(tid));
      if (one === undefined || other === undefined) throw new SyscallError("ESRCH");
      return KCMP[type](one) === KCMP[type](other) ? 0 : 1;
    });
  }

  /** /proc/TID/wchan: "0" while it runs. Throws ENOENT; for tasks of programs nothing is known. */
  wchan(tid: number): string | undefined {
    const task = procfs.taskOf(this.kernel, tid);
    return task === this.task ? "0" : this.machine.sleepsIn.get(task);
  }

  /** Names in /proc/PID/task: the tids of a process, the oldest first. Throws ENOENT. */
  tasks(pid: number = this.pid): number[] {
    return [...procfs.taskOf(this.kernel, pid).signal.threads].map((task) => task.pid);
  }

  /** Numbers in /proc, those of processes. */
  processes(): number[] {
    return this.kernel
      .tasks()
      .filter((task) => task.groupLeader === task)
      .map(({ pid }) => pid);
  }
}
