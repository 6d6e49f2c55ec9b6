import type { Scene, Seen } from "../machine/index.js";
import { killAndWait, ownedVsock, sendOne } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { owner, holder, fd, tx } = vsock;
  const used_1 = sendOne(vsock);
  owner.close(fd);
  const owner_threads_after_its_close = owner.tasks().length;
  holder.sendPackets(tx);
  const used_2 = tx.usedIdx;
  return {
    used_1,
    owner_threads_after_its_close,
    used_2,
    holder_close_fast: holder.close(fd) === "OK",
    owner_threads_after_last_close_by_other_process: owner.tasks().length,
    owner_state: holder.stat(owner.tid).state,
    wait: killAndWait(vsock),
  };
}
