import type { Scene, Seen } from "../machine/index.js";
import { killAndWait, ownedVsock } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const wait = killAndWait(vsock);
  const { done, result } = vsock.holder.beginIoctl(vsock.fd, "VHOST_GET_FORK_FROM_OWNER", {});
  return { wait, "GET_FORK_FROM_OWNER(flush)": result, fast: done };
}
