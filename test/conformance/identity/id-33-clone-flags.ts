import type { Scene, Seen } from "../machine/index.js";
import type { CloneFlag } from "../machine/proc.js";

const COMBINATIONS: Record<string, readonly CloneFlag[]> = {
  THREAD_without_SIGHAND: ["CLONE_THREAD", "CLONE_VM"],
  SIGHAND_without_VM: ["CLONE_SIGHAND"],
  THREAD_SIGHAND_without_VM: ["CLONE_THREAD", "CLONE_SIGHAND"],
  NEWNS_FS: ["CLONE_NEWNS", "CLONE_FS"],
  NEWUSER_FS: ["CLONE_NEWUSER", "CLONE_FS"],
  THREAD_NEWPID: ["CLONE_THREAD", "CLONE_SIGHAND", "CLONE_VM", "CLONE_NEWPID"],
  THREAD_NEWUSER: ["CLONE_THREAD", "CLONE_SIGHAND", "CLONE_VM", "CLONE_NEWUSER"],
  NEWIPC_SYSVSEM: ["CLONE_NEWIPC", "CLONE_SYSVSEM"],
  PIDFD_DETACHED: ["CLONE_PIDFD", "CLONE_DETACHED"],
  PIDFD_PARENT_SETTID: ["CLONE_PIDFD", "CLONE_PARENT_SETTID"],
};

export function run({ main, attempt }: Scene): Seen {
  const results = Object.entries(COMBINATIONS).map(([name, flags]) => [
    name,
    attempt(() => main.clone(flags)),
  ]);
  return Object.fromEntries(results);
}
