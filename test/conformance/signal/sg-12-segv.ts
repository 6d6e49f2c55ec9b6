import type { Scene, Seen } from "../machine/index.js";
import { isGone, ownedVsock, sendOne, useAfterDeath } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { owner, holder, worker } = vsock;
  const used_before = sendOne(vsock);
  const kill = holder.kill(owner.pid, "SIGSEGV");
  const wait = holder.wait(owner.pid);
  const worker_gone = isGone(vsock, worker);
  return { used_before, kill, wait, worker_gone, ...useAfterDeath(vsock) };
}
