import type { Scene, Seen } from "../machine/index.js";
import { killAndWait, ownedVsock } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { owner, holder, worker, tx } = vsock;
  const tgkill = holder.tgkill(owner.pid, worker, "SIGSTOP");
  const stopped_main_state = holder.stat(owner.tid).state;
  const stopped_worker_state = holder.stat(worker).state;
  holder.sendPackets(tx);
  const used_while_stopped = tx.usedIdx;
  holder.kill(owner.pid, "SIGCONT");
  return {
    tgkill_STOP_to_worker: tgkill,
    stopped_main_state,
    stopped_worker_state,
    used_while_stopped,
    cont_main_state: holder.stat(owner.tid).state,
    cont_worker_state: holder.stat(worker).state,
    used_after_cont: tx.usedIdx,
    wait: killAndWait(vsock),
  };
}
