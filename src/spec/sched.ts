// Linux: include/uapi/linux/sched.h, include/linux/sched.h, include/uapi/asm-generic/signal.h.
// Only the numbers this model gives a meaning.

/** Share the address space with the caller; without it the child gets a copy. */
export const CLONE_VM = 0x100;
/** Share cwd, root and umask. This model has none of the three: accepted, nothing to share. */
export const CLONE_FS = 0x200;
/** Share the table of open files; without it the child gets a copy. */
export const CLONE_FILES = 0x400;
/** Share the signal handlers; needs CLONE_VM. */
export const CLONE_SIGHAND = 0x800;
/** Join the caller's thread group; needs CLONE_SIGHAND. */
export const CLONE_THREAD = 0x10000;
/** A tracer may not force tracing on the child. This model has no tracers: accepted. */
export const CLONE_UNTRACED = 0x800000;
/** Share the I/O context (I/O priority). This model has none: accepted. Top bit of 32. */
export const CLONE_IO = 0x80000000;

/** Task flag: works for io_uring. A special case of PF_USER_WORKER, set besides it. */
export const PF_IO_WORKER = 0x10;
/** Task flag: forked and has not executed a program since. */
export const PF_FORKNOEXEC = 0x40;
/** Task flag: kernel work on behalf of the user process it was made from. */
export const PF_USER_WORKER = 0x4000;
/** Task flag: goes on while the machine is suspended. */
export const PF_NOFREEZE = 0x8000;
/** Task flag: a kernel thread, made from kthreadd and no process's. */
export const PF_KTHREAD = 0x200000;

/** Bytes of a task's name, the closing NUL among them. */
export const TASK_COMM_LEN = 16;

/** Task state: runs, or may run. */
export const TASK_RUNNING = 0x0;
/** Task state: sleeps, or is about to; a wake-up ends it. */
export const TASK_INTERRUPTIBLE = 0x1;
/** Task state: has exited. */
export const TASK_DEAD = 0x80;
/** Task state: made by copy_process, not started yet. */
export const TASK_NEW = 0x800;

/** Exit state: released, in no table any more. */
export const EXIT_DEAD = 0x10;
/** Exit state: ended, and waits for its parent to ask how; still counted. */
export const EXIT_ZOMBIE = 0x20;

/** wait4 option: children whose exit signal is not SIGCHLD, instead of those whose is. */
export const __WCLONE = 0x80000000;

/** Signal 9: ends a process; handlers don't see it. */
export const SIGKILL = 9;
/** Signal 17: tells a parent that a child has ended. */
export const SIGCHLD = 17;

/** Capability number: the system administrator's. */
export const CAP_SYS_ADMIN = 21;
/** Capability number: to pass resource limits. */
export const CAP_SYS_RESOURCE = 24;

/** Lowest pid that is given out again after the numbers have wrapped around. */
export const RESERVED_PIDS = 300;
/** Highest value of pid_max, on a 64-bit machine. */
export const PID_MAX_LIMIT = 4194304;
/** Lowest value of threads-max. */
export const MIN_THREADS = 20;
/** Highest value of threads-max. */
export const MAX_THREADS = 0x3fffffff;

/** Bit number in a vhost task's flags: asked to end. */
export const VHOST_TASK_FLAGS_STOP = 0;
