import type { Scene, Seen } from "../machine/index.js";
import { isGone, ownedVsock, sendOne, useAfterDeath } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { owner, holder, worker } = vsock;
  const used_before = sendOne(vsock);
  const tgkill = holder.tgkill(owner.pid, worker, "SIGKILL");
  const wait = holder.wait(owner.pid);
  const worker_gone = isGone(vsock, worker);
  return { used_before, tgkill, wait, worker_gone, ...useAfterDeath(vsock) };
}
