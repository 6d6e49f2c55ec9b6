import type { Scene, Seen } from "../machine/index.js";
import { killAndWait, ownedVsock, sendOne } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { owner, holder, worker, tx } = vsock;
  const used_before = sendOne(vsock);
  owner.exit();
  const after_main_state = holder.stat(owner.tid).state;
  const after_worker_state = holder.stat(worker).state;
  holder.sendPackets(tx);
  return {
    used_before,
    after_main_state,
    after_worker_state,
    used_after_main_exit: tx.usedIdx,
    waitpid_nohang: holder.waitNoHang(owner.pid),
    after_kill_wait: killAndWait(vsock),
  };
}
