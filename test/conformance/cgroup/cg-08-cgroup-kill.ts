import type { Scene, Seen } from "../machine/index.js";
import { ownedVsock, sendOne, useAfterDeath } from "../owned-vsock.js";

const GROUP = "/sys/fs/cgroup/c08";

export function run(scene: Scene): Seen {
  scene.main.mkdir(GROUP);
  const vsock = ownedVsock(scene, (owner) => owner.write(`${GROUP}/cgroup.procs`, 0));
  const { owner, holder } = vsock;
  const used_before = sendOne(vsock);
  const cgroup_kill = holder.write(`${GROUP}/cgroup.kill`, 1);
  const wait = holder.wait(owner.pid);
  const populated = Number(/populated (\d)/.exec(holder.read(`${GROUP}/cgroup.events`))?.[1]);
  return { used_before, cgroup_kill, wait, populated, ...useAfterDeath(vsock) };
}
