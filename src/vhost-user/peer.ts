import type { Kernel } from "../kernel/kernel.js";
import { MEMORY_BYTES_MAX } from "../kernel/mm.js";
import type { SpawnOptions } from "../kernel/spawn.js";
import type { Task } from "../kernel/task.js";
import { hasProcess, type ProcessFacts, processFacts } from "../linux/proc.js";
import type { FsIdentity } from "../linux/thread-identity.js";
import { peerCredentials, peerGroups } from "../linux/unix-socket.js";
import { VhostError } from "../spec/errno.js";

/** A front-end as a process of the model. */
export interface Peer {
  task: Task;
  /** In whose name it opens files. */
  identity: FsIdentity;
  /** One connection less; with the last, the process exits. */
  release(): void;
}

interface Adopted {
  task: Task;
  connections: number;
}

/** Front-ends that are connected, by model: one process may have several connections. */
const adoptedOf = new WeakMap<Kernel, Map<string | symbol, Adopted>>();

/** What is said of a process that can't be seen: one of another pid namespace. */
const UNSEEN: ProcessFacts = {
  comm: "front-end",
  startTime: "",
  nproc: { cur: Number.POSITIVE_INFINITY, max: Number.POSITIVE_INFINITY },
  cgroup: "/",
};

/**
 * Makes the process at the other end of a connection a process of the model: with its pid, user,
 * group, name, RLIMIT_NPROC and control group, and with a memory of 4 GiB for the guest's to lie
 * in. Two connections of one process are one process. Throws what `spawn` throws.
 */
export function adoptPeer(kernel: Kernel, connection: number): Peer {
  const { pid, uid, gid } = peerCredentials(connection);
  const identity = { uid, gid, groups: peerGroups(connection) };
  const facts = factsOf(pid);
  const known = adoptedOf.get(kernel) ?? new Map<string | symbol, Adopted>();
  adoptedOf.set(kernel, known);
  // Who can't be told apart shares nothing.
  const key = facts === UNSEEN ? Symbol("unseen") : [pid, facts.startTime, uid, gid].join(":");
  let adopted = known.get(key);
  if (adopted?.task.exitState !== 0) {
    adopted = { task: spawnAs(kernel, pid, { ...optionsOf(facts), uid, gid }), connections: 0 };
    known.set(key, adopted);
  }
  adopted.connections++;
  const { task } = adopted;
  return {
    task,
    identity,
    release: releaseOnce(() => {
      if (--adopted.connections > 0) return;
      known.delete(key);
      if (task.exitState === 0) kernel.exitTask(task, 0);
    }),
  };
}

/** Throws ESRCH for one that has ended: whose number it was is no longer known. */
function factsOf(pid: number): ProcessFacts {
  if (pid === 0) return UNSEEN;
  if (!hasProcess(pid))
    throw new VhostError("ESRCH", `front-end ${pid} has ended already`, { pid });
  return processFacts(pid) ?? UNSEEN;
}

function optionsOf({ comm, nproc, cgroup }: ProcessFacts): SpawnOptions {
  return { comm, cgroup, rlimits: { NPROC: nproc }, memoryBytes: MEMORY_BYTES_MAX };
}

/** With the peer's own pid, unless a task of the model has that: then with another. */
function spawnAs(kernel: Kernel, pid: number, options: SpawnOptions): Task {
  if (pid > 0 && pid < kernel.pidMax) {
    try {
      return kernel.spawn({ ...options, pid });
    } catch (error) {
      if (!(error instanceof VhostError && error.code === "EEXIST")) throw error;
    }
  }
  return kernel.spawn(options);
}

function releaseOnce(release: () => void): () => void {
  let isReleased = false;
  return () => {
    if (!isReleased) release();
    isReleased = true;
  };
}
