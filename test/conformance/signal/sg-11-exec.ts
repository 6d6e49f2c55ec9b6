import type { Scene, Seen } from "../machine/index.js";
import { isGone, killAndWait, ownedVsock, sendOne } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { owner, holder, fd, worker, tx } = vsock;
  const used_before = sendOne(vsock);
  owner.exec("other");
  const threads = owner.tasks().length;
  holder.sendPackets(tx);
  return {
    used_before,
    threads,
    worker_gone: isGone(vsock, worker),
    used_after_exec: tx.usedIdx,
    set_vring_num: owner.ioctl(fd, "VHOST_SET_VRING_NUM", { index: 0, num: 8 }),
    set_owner: owner.ioctl(fd, "VHOST_SET_OWNER"),
    get_features: owner.ioctl(fd, "VHOST_GET_FEATURES", {}),
    fresh_set_owner: owner.ioctl(owner.open("/dev/vhost-vsock"), "VHOST_SET_OWNER"),
    wait: killAndWait(vsock),
  };
}
