import type { Scene, Seen } from "../machine/index.js";
import { isGone, ownedVsock } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { owner, holder, fd, worker, tx } = vsock;
  const second = owner.pthreadCreate();
  owner.exit();
  holder.sendPackets(tx);
  return {
    main_state: holder.stat(owner.pid).state,
    worker_state: holder.stat(worker).state,
    used: tx.usedIdx,
    second_is_owner: second.ioctl(fd, "VHOST_GET_VRING_BASE", { index: 0 }),
    waitpid_nohang: holder.waitNoHang(owner.pid),
    second_exit_group: (() => {
      second.exitGroup(5);
      return holder.wait(owner.pid);
    })(),
    worker_gone: isGone(vsock, worker),
  };
}
