// Linux: include/uapi/asm-generic/signal.h, include/linux/signal.h: what each does by default.

import { SIGCHLD, SIGKILL } from "./sched.js";

/** The signals' numbers, by name. */
export const SIGNALS = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGSTKFLT: 16,
  SIGCHLD,
  SIGCONT: 18,
  SIGSTOP: 19,
  SIGTSTP: 20,
  SIGTTIN: 21,
  SIGTTOU: 22,
  SIGURG: 23,
  SIGXCPU: 24,
  SIGXFSZ: 25,
  SIGVTALRM: 26,
  SIGPROF: 27,
  SIGWINCH: 28,
  SIGIO: 29,
  SIGPWR: 30,
  SIGSYS: 31,
} as const;

/** How many there are, the real-time ones included. */
export const _NSIG = 64;

/** A signal's bit in a set of 64. */
export const sigmask = (sig: number): bigint => 1n << BigInt(sig - 1);

const setOf = (...sigs: number[]): bigint => sigs.reduce((set, sig) => set | sigmask(sig), 0n);

const { SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU } = SIGNALS;
const { SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV, SIGBUS, SIGSYS } = SIGNALS;
const { SIGXCPU, SIGXFSZ, SIGCONT, SIGURG, SIGWINCH } = SIGNALS;

/** Those that no process can handle, ignore or block. Linux: SIG_KERNEL_ONLY_MASK. */
export const SIG_KERNEL_ONLY_MASK = setOf(SIGKILL, SIGSTOP);
/** Those that stop a process when nothing is said. Linux: SIG_KERNEL_STOP_MASK. */
export const SIG_KERNEL_STOP_MASK = setOf(SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU);
/** Those that do nothing when nothing is said. Linux: SIG_KERNEL_IGNORE_MASK. */
export const SIG_KERNEL_IGNORE_MASK = setOf(SIGCONT, SIGCHLD, SIGWINCH, SIGURG);
/** Those that leave a core when nothing is said. Linux: SIG_KERNEL_COREDUMP_MASK. */
export const SIG_KERNEL_COREDUMP_MASK =
  setOf(SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV, SIGBUS, SIGSYS) |
  setOf(SIGXCPU, SIGXFSZ);
/** A set of all. */
export const SIG_ALL = (1n << BigInt(_NSIG)) - 1n;
