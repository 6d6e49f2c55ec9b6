import { VhostError } from "../spec/errno.js";
import { TASK_COMM_LEN, TASK_DEAD, TASK_NEW } from "../spec/sched.js";
import type { Cgroup } from "./cgroup.js";
import type { Cred } from "./cred.js";
import type { Files } from "./files.js";
import type { Mm } from "./mm.js";
import type { NsProxy } from "./nsproxy.js";
import type { Rlimits } from "./rlimit.js";
import type { Sched } from "./sched.js";
import type { Confinement } from "./seccomp.js";
import type { Thread } from "./thread.js";
import { LONG_CPU_US, TASK_WORDS_BYTES, Waker, WORD_CGROUP, WORD_STATE } from "./wait.js";

/** What the threads of a process have in common. Linux: signal_struct. */
export interface SignalStruct {
  /** All of them that are not released yet, the leader (if not) among them. */
  readonly threads: Set<Task>;
  readonly rlimits: Rlimits;
  /** Process group and session, by their leaders' pids. */
  pgrp: number;
  session: number;
  /** Set of signals for the whole process that no thread has taken yet. */
  sharedPending: bigint;
  /** -1000 to 1000: how gladly it is killed when memory is short. Linux: oom_score_adj. */
  oomScoreAdj: number;
  /** Inherits the orphans among its descendants. Linux: is_child_subreaper. */
  isChildSubreaper: boolean;
  /** Stopped by SIGSTOP or its like, until SIGCONT. Linux: SIGNAL_STOP_STOPPED. */
  stopped: boolean;
  /** The signal that stopped it, until its parent was told; 0: nothing to tell. */
  stopCode: number;
  /** It goes on after a stop, and its parent was not told. Linux: SIGNAL_CLD_CONTINUED. */
  continued: boolean;
  /** Microseconds that its threads have run, those that are gone too. */
  readonly cpuTimeUs: number;
  /** Microseconds that the threads had run that are released. */
  releasedCpuTimeUs: number;
  /**
   * What is called, once, when the process executes another program, before it leaves its memory.
   * None may throw. Linux calls io_uring_task_cancel() by its name.
   */
  readonly atExec: Set<() => void>;
  /** How the whole process was ended, as `exitCode` of a task; `undefined`: it was not. */
  groupExitCode?: number | undefined;
}

/** The signal handlers. Linux: sighand_struct. */
export interface SighandStruct {
  /** Every one of them, SIGKILL's included, is SIG_IGN. */
  ignoreAll: boolean;
  /** By number, those that are not the default: SIG_IGN, or what runs. Linux: action. */
  readonly actions: Map<number, "SIG_IGN" | SignalHandler>;
}

/** Called in place of the process's own code, with the thread that took the signal. */
export type SignalHandler = (task: Task, sig: number) => void;

/** Where a process is in the file system. Linux: fs_struct. */
export interface FsStruct {
  umask: number;
  cwd: string;
}

/** What a task is made of. Linux: task_struct, the fields that this model has. */
export interface TaskFields {
  pid: number;
  /** The thread that the process is known by; `null`: this one. */
  groupLeader: Task | null;
  comm: string;
  flags: number;
  /** `null`: itself, as pid 0 is. */
  parent: Task | null;
  exitSignal: number;
  cred: Cred;
  signal: SignalStruct;
  sighand: SighandStruct;
  cgroup: Cgroup;
  mm: Mm | null;
  files: Files | null;
  fs: FsStruct;
  sched: Sched;
  nsproxy: NsProxy;
  confinement: Confinement;
  /** Set of signals it does not take. */
  blocked: bigint;
  pidNs: number;
}

/**
 * A process, or a thread of one. Kept by the kernel's own thread; other threads see `words`
 * alone. Change nothing here by hand: the functions of this room do, and keep the counts. Linux:
 * task_struct.
 */
export class Task {
  readonly pid: number;
  /** First of its thread group; the task itself unless made with CLONE_THREAD. */
  readonly groupLeader: Task;
  /** At most 15 bytes of UTF-8. */
  comm: string;
  /** PF_ bits. */
  flags: number;
  /** Linux: real_parent. */
  parent: Task;
  /** Processes it has made, or inherited. Threads are nobody's children. */
  readonly children = new Set<Task>();
  /** Signal for the parent at exit; 0: none; -1: a thread, which nobody waits for. */
  exitSignal: number;
  cred: Cred;
  readonly signal: SignalStruct;
  sighand: SighandStruct;
  #cgroup!: Cgroup;
  /** `null`: a kernel thread, or exited. */
  mm: Mm | null;
  /** What a kernel thread works in, borrowed: see kthreadUseMm. Linux: active_mm. */
  activeMm: Mm | null = null;
  /** `null`: made with `noFiles`, or exited. */
  files: Files | null;
  /** Shared with CLONE_FS. */
  fs: FsStruct;
  /** Its own, as copied at its birth. */
  readonly sched: Sched;
  nsproxy: NsProxy;
  /** Number of the pid namespace it lives in. */
  readonly pidNs: number;
  confinement: Confinement;
  /** Set of signals it does not take. Linux: blocked. */
  blocked: bigint;
  /** Set of signals for it alone that it has not taken yet. Linux: pending. */
  pending = 0n;
  /** The process that traces it. Linux: ptrace, parent. */
  tracer: Task | null = null;
  /** Whom it traces. Linux: ptraced. */
  readonly tracees = new Set<Task>();
  /** The signal that its tracer sees it stopped by; 0: it is not. Linux: TASK_TRACED, exit_code. */
  tracedStop = 0;
  /** It is in a call: what comes waits until its end. */
  inKernel = false;
  /** What runs it; `null`: the caller's own code acts for it. */
  thread: Thread | null = null;
  /** 0 while it lives, then EXIT_ZOMBIE, EXIT_DEAD. */
  exitState = 0;
  /** What do_exit was given; as wait(2) shows it: a signal number, or a status times 256. */
  exitCode = 0;
  /** What it shares with the thread that runs it: see wait.ts. May be handed to any thread. */
  readonly words = new SharedArrayBuffer(TASK_WORDS_BYTES);
  /** Wakes its thread, from the kernel's. */
  waker = new Waker(this.words);

  /** A task in TASK_NEW, in no table yet: copyProcess makes them. */
  constructor(fields: TaskFields) {
    this.pid = fields.pid;
    this.groupLeader = fields.groupLeader ?? this;
    this.comm = truncateComm(fields.comm);
    this.flags = fields.flags;
    this.parent = fields.parent ?? this;
    this.exitSignal = fields.exitSignal;
    this.cred = fields.cred;
    this.signal = fields.signal;
    this.sighand = fields.sighand;
    this.cgroup = fields.cgroup;
    this.mm = fields.mm;
    this.files = fields.files;
    this.fs = fields.fs;
    this.sched = fields.sched;
    this.nsproxy = fields.nsproxy;
    this.confinement = fields.confinement;
    this.blocked = fields.blocked;
    this.pidNs = fields.pidNs;
    this.state = TASK_NEW;
  }

  /** Number of the process; the leader's pid. */
  get tgid(): number {
    return this.groupLeader.pid;
  }

  /** Its control group. */
  get cgroup(): Cgroup {
    return this.#cgroup;
  }

  /** Its thread is charged there from then on; the counts are the caller's to keep. */
  set cgroup(cgroup: Cgroup) {
    this.#cgroup = cgroup;
    Atomics.store(new Int32Array(this.words), WORD_CGROUP, cgroup.number);
  }

  /**
   * Microseconds that it has run; of a thread, as of its last look at its clock. Linux: utime +
   * stime.
   */
  get cpuTimeUs(): number {
    return Number(Atomics.load(new BigInt64Array(this.words), LONG_CPU_US));
  }

  /** It has run for so long; for accountCpu. */
  addCpuTime(microseconds: number): void {
    Atomics.add(new BigInt64Array(this.words), LONG_CPU_US, BigInt(microseconds));
  }

  /**
   * TASK_… as it is at this moment; a running thread changes its own, which may go on for a moment
   * after the task's end. Linux: __state.
   */
  get state(): number {
    if (this.exitState !== 0) return TASK_DEAD;
    return Atomics.load(new Int32Array(this.words), WORD_STATE);
  }

  /** Only while no thread runs the task: before its start and after its end. */
  set state(state: number) {
    Atomics.store(new Int32Array(this.words), WORD_STATE, state);
  }
}

/**
 * A name as a task keeps it: up to the first NUL, 15 bytes, whole characters. Linux: strscpy_pad().
 */
export function truncateComm(name: string): string {
  const text = name.replace(/\0.*$/s, "");
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(TASK_COMM_LEN - 1));
  return text.slice(0, read);
}

/** ESRCH when the task has exited. */
export function mustLive({ exitState, pid }: Task): void {
  if (exitState !== 0) throw new VhostError("ESRCH", `task ${pid} has exited`, { pid });
}

/**
 * Whether the task is the last of its process that is not released. Linux: thread_group_empty().
 */
export const threadGroupEmpty = (task: Task): boolean => task.signal.threads.size === 1;
