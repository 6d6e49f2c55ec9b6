// Linux: include/uapi/linux/sched.h, include/linux/sched.h, include/uapi/asm-generic/signal.h.
// Only the numbers this model gives a meaning.

/** Share the address space with the caller; without it the child gets a copy. */
export const CLONE_VM = 0x100;
/** Share cwd, root and umask. */
export const CLONE_FS = 0x200;
/** Share the table of open files; without it the child gets a copy. */
export const CLONE_FILES = 0x400;
/** Share the signal handlers; needs CLONE_VM. */
export const CLONE_SIGHAND = 0x800;
/** Give a descriptor that stands for the child. Not modelled, but for its refusals. */
export const CLONE_PIDFD = 0x1000;
/** The child's parent is the caller's. */
export const CLONE_PARENT = 0x8000;
/** Join the caller's thread group; needs CLONE_SIGHAND. */
export const CLONE_THREAD = 0x10000;
/** A mount namespace of its own. */
export const CLONE_NEWNS = 0x20000;
/** Share System V semaphore undo lists. This model has none: accepted. */
export const CLONE_SYSVSEM = 0x40000;
/** Store the child's number for the parent. The caller of this model has it anyway: accepted. */
export const CLONE_PARENT_SETTID = 0x100000;
/** Without a meaning today. */
export const CLONE_DETACHED = 0x400000;
/** A cgroup namespace of its own. */
export const CLONE_NEWCGROUP = 0x2000000;
/** A namespace of host and domain name of its own. */
export const CLONE_NEWUTS = 0x4000000;
/** An IPC namespace of its own. */
export const CLONE_NEWIPC = 0x8000000;
/** A user namespace of its own. */
export const CLONE_NEWUSER = 0x10000000;
/** A pid namespace for the children. */
export const CLONE_NEWPID = 0x20000000;
/** A network namespace of its own. */
export const CLONE_NEWNET = 0x40000000;
/** A namespace of clocks of its own. */
export const CLONE_NEWTIME = 0x80;
/** A tracer may not force tracing on the child. This model has no tracers: accepted. */
export const CLONE_UNTRACED = 0x800000;
/** Share the I/O context (I/O priority). This model has none: accepted. Top bit of 32. */
export const CLONE_IO = 0x80000000;

/** Task flag: works for io_uring. A special case of PF_USER_WORKER, set besides it. */
export const PF_IO_WORKER = 0x10;
/** Task flag: forked and has not executed a program since. */
export const PF_FORKNOEXEC = 0x40;
/** Task flag: became a user that has too many tasks; it may fork, but not execute a program. */
export const PF_NPROC_EXCEEDED = 0x1000;
/** Task flag: kernel work on behalf of the user process it was made from. */
export const PF_USER_WORKER = 0x4000;
/** Task flag: a worker of a work queue. */
export const PF_WQ_WORKER = 0x20;
/** Task flag: nobody may move it to other CPUs, nor to another cgroup. */
export const PF_NO_SETAFFINITY = 0x4000000;
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
/** Task state: stopped by a signal, or by its tracer. */
export const __TASK_STOPPED = 0x4;
/**
 * Task state: runs, but its group has used up its CPU time. Of this model alone: Linux takes such a
 * task off the queue, and its state is TASK_RUNNING.
 */
export const TASK_THROTTLED = 0x10000;
/** Task state: has exited. */
export const TASK_DEAD = 0x80;
/** Task state: made by copy_process, not started yet. */
export const TASK_NEW = 0x800;

/** Exit state: released, in no table any more. */
export const EXIT_DEAD = 0x10;
/** Exit state: ended, and waits for its parent to ask how; still counted. */
export const EXIT_ZOMBIE = 0x20;

/** wait4 option: children of the calling thread alone, not of its process's others. */
export const __WNOTHREAD = 0x20000000;
/** wait4 option: children whatever their exit signal. */
export const __WALL = 0x40000000;
/** wait4 option: children whose exit signal is not SIGCHLD, instead of those whose is. */
export const __WCLONE = 0x80000000;

/** Signal 9: ends a process; handlers don't see it. */
export const SIGKILL = 9;
/** Signal 17: tells a parent that a child has ended. */
export const SIGCHLD = 17;

/** Policy: takes its turn by its nice value. Also SCHED_OTHER. */
export const SCHED_NORMAL = 0;
/** Policy: runs before all ordinary tasks, until it sleeps. */
export const SCHED_FIFO = 1;
/** Policy: as FIFO, in turns. */
export const SCHED_RR = 2;
/** Policy: as NORMAL, in longer turns. */
export const SCHED_BATCH = 3;
/** Policy: runs when nobody else does. */
export const SCHED_IDLE = 5;
/** Policy: runs by a budget and a deadline. */
export const SCHED_DEADLINE = 6;

/** Seccomp mode: filters decide. */
export const SECCOMP_MODE_FILTER = 2;

/** Capability number: to signal other users' processes. */
export const CAP_KILL = 5;
/** Capability number: to become any group. */
export const CAP_SETGID = 6;
/** Capability number: to become any user. */
export const CAP_SETUID = 7;
/** Capability number: to trace other users' tasks. */
export const CAP_SYS_PTRACE = 19;
/** Capability number: to schedule as one likes. */
export const CAP_SYS_NICE = 23;
/** The highest capability number there is. */
export const CAP_LAST_CAP = 40;
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
