// Each step of copyProcess fails in turn: nothing that the steps before it took is left, and the
// same call goes through once the cause is gone.

import { afterEach, describe, expect, test, vi } from "vitest";
import { kernelWait4 } from "#dist/kernel/exit.js";
import { fdInstall, OpenFile } from "#dist/kernel/files.js";
import { copyProcess, type KernelCloneArgs } from "#dist/kernel/fork.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { unshare } from "#dist/kernel/nsproxy.js";
import { sendSignal } from "#dist/kernel/send-signal.js";
import type { Task } from "#dist/kernel/task.js";
import { type Errno, VhostError } from "#dist/spec/errno.js";
import * as sched from "#dist/spec/sched.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { counted, recounted, refused } from "../helpers/kernel-counts.js";

const { CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_THREAD } = sched;
const THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
/** Everything copied; the memory shared; a thread. */
const SHARED = [0, CLONE_VM, THREAD];
const UID = 1000;

interface Scene {
  kernel: Kernel;
  owner: Task;
}

/** How a step is made to fail, and by what that ends. */
interface Cause {
  /** Flags besides what is shared. */
  readonly flags?: number;
  readonly args?: Partial<KernelCloneArgs>;
  readonly lift?: () => void;
}

interface Step {
  readonly name: string;
  readonly code: Errno;
  readonly uid?: number;
  /** What has to be shared, or must not, for the step to be reached; default: any. */
  readonly shared?: readonly number[];
  arrange(scene: Scene): Cause;
}

afterEach(() => void vi.restoreAllMocks());

const STEPS: readonly Step[] = [
  {
    name: "the flags",
    code: "EINVAL",
    shared: [0, CLONE_VM],
    arrange: () => ({ flags: CLONE_THREAD }),
  },
  {
    name: "a signal that waits",
    code: "ERESTARTNOINTR",
    arrange: ({ kernel, owner }) => {
      owner.sighand.actions.set(SIGNALS.SIGUSR1, () => {});
      owner.inKernel = true;
      sendSignal(kernel, owner, SIGNALS.SIGUSR1, false);
      const lift = () => {
        owner.inKernel = false;
      };
      return { lift };
    },
  },
  {
    name: "RLIMIT_NPROC",
    code: "EAGAIN",
    uid: UID,
    arrange: ({ owner: { signal } }) => {
      signal.rlimits.NPROC = { cur: 1, max: 9 };
      const lift = () => {
        signal.rlimits.NPROC = { cur: 9, max: 9 };
      };
      return { lift };
    },
  },
  {
    name: "threads-max",
    code: "EAGAIN",
    arrange: ({ kernel }) => {
      kernel.threadsMax = kernel.tasks().length;
      const lift = () => {
        kernel.threadsMax = 100;
      };
      return { lift };
    },
  },
  {
    name: "the scheduler",
    code: "EAGAIN",
    arrange: ({ owner }) => {
      owner.sched.policy = sched.SCHED_DEADLINE;
      const lift = () => {
        owner.sched.resetOnFork = true;
      };
      return { lift };
    },
  },
  {
    name: "a copy of the memory",
    code: "ENOMEM",
    shared: [0, CLONE_FILES],
    arrange: () => {
      class Full {
        constructor() {
          throw new RangeError("could not allocate memory");
        }
      }
      const spy = vi.spyOn(WebAssembly, "Memory").mockImplementation(Full as never);
      return { lift: () => spy.mockRestore() };
    },
  },
  {
    name: "new namespaces, without leave",
    code: "EPERM",
    uid: UID,
    arrange: ({ owner }) => {
      const lift = () => {
        owner.cred = { ...owner.cred, caps: new Set([sched.CAP_SYS_ADMIN]) };
      };
      return { flags: sched.CLONE_NEWUTS | sched.CLONE_NEWNET, lift };
    },
  },
  {
    name: "new namespaces that do not go together",
    code: "EINVAL",
    arrange: () => ({ flags: sched.CLONE_NEWIPC | sched.CLONE_SYSVSEM }),
  },
  {
    name: "a pid namespace without its init",
    code: "ENOMEM",
    shared: [0, CLONE_VM],
    arrange: ({ kernel, owner }) => {
      const { nsproxy } = owner;
      unshare(kernel, owner, sched.CLONE_NEWPID);
      const init = copyProcess(kernel, owner, { flags: CLONE_VM });
      kernel.kill(init.pid, sched.SIGKILL);
      kernelWait4(kernel, owner, init.pid, sched.__WCLONE);
      const lift = () => {
        owner.nsproxy = nsproxy;
      };
      return { lift };
    },
  },
  {
    name: "the pid, taken",
    code: "EEXIST",
    arrange: ({ owner }) => ({ args: { setTid: owner.pid } }),
  },
  {
    name: "the pid, none",
    code: "EINVAL",
    arrange: () => ({ args: { setTid: 0 } }),
  },
  {
    name: "pids.max, above its group",
    code: "EAGAIN",
    arrange: ({ kernel }) => {
      const group = kernel.cgroup("/a");
      group.pidsMax = 1;
      const lift = () => {
        group.pidsMax = 9;
      };
      return { lift };
    },
  },
  {
    name: "pids.max, where it is to be born",
    code: "EAGAIN",
    arrange: ({ kernel }) => {
      const cgroup = kernel.cgroup("/c");
      cgroup.pidsMax = 0;
      const lift = () => {
        cgroup.pidsMax = 1;
      };
      return { args: { cgroup }, lift };
    },
  },
  {
    name: "its thread",
    code: "ENOSYS",
    arrange: () => ({
      args: {
        fn: () => {
          throw new VhostError("ENOSYS", "no thread");
        },
      },
    }),
  },
];

const boot = (uid = 0): Scene => {
  const kernel = new Kernel({ epoch: "v6.12" });
  const owner = kernel.spawn({ uid, cgroup: "/a/b", memoryBytes: 65536 });
  if (owner.files) fdInstall(owner.files, new OpenFile(() => {}));
  return { kernel, owner };
};

/** All that a fork could leave something in. */
function state({ kernel, owner }: Scene) {
  const { mm, files, signal } = owner;
  const seen = {
    uids: [0, UID],
    cgroups: ["/", "/a", "/a/b", "/c"].map((path) => kernel.cgroup(path)),
    mms: mm ? [mm] : [],
  };
  const counts = counted(kernel, seen);
  expect(counts).toEqual(recounted(kernel, seen));
  return {
    counts,
    pids: kernel.tasks().map(({ pid }) => pid),
    files: [files?.users, [...(files?.fds.values() ?? [])].map(({ count }) => count)],
    kin: [owner.children.size, signal.threads.size, kernel.init.children.size],
    handlers: owner.sighand.actions.size,
  };
}

const CASES = STEPS.flatMap((step) =>
  (step.shared ?? SHARED).map((shared) => ({ ...step, shared, hex: shared.toString(16) })),
);

describe("a fork that fails leaves nothing", () => {
  test.each(CASES)("$name: $code, sharing 0x$hex", ({ code, uid, shared, arrange }) => {
    const scene = boot(uid);
    const { kernel, owner } = scene;
    const { flags = 0, args = {}, lift } = arrange(scene);
    const before = state(scene);
    const refs = [owner.nsproxy, owner.cred, owner.sighand, owner.fs, owner.cgroup, owner.mm];
    const fork = () => copyProcess(kernel, owner, { ...args, flags: (shared | flags) >>> 0 });
    for (let times = 0; times < 3; times++) {
      refused(code, fork);
      expect(state(scene)).toEqual(before);
    }
    const now = [owner.nsproxy, owner.cred, owner.sighand, owner.fs, owner.cgroup, owner.mm];
    expect(now.map((ref, i) => ref === refs[i])).toEqual(refs.map(() => true));
    if (lift === undefined) return;
    lift();
    const child = fork();
    expect(state(scene)).not.toEqual(before);
    kernel.exitTask(child, 0);
    if (child.groupLeader === child) {
      expect(kernelWait4(kernel, owner, child.pid, sched.__WCLONE)).toBe(0);
    }
    expect(state(scene)).toEqual(before);
  });
});
