import type { Scene, Seen } from "../machine/index.js";
import { killAndWait, ownedVsock, sendOne } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { owner, holder, worker, tx } = vsock;
  const states = (prefix: string): Seen => ({
    [`${prefix}_main_state`]: holder.stat(owner.tid).state,
    [`${prefix}_worker_state`]: holder.stat(worker).state,
  });
  const used_before = sendOne(vsock);
  holder.kill(owner.pid, "SIGSTOP");
  const stopped = states("stopped");
  holder.sendPackets(tx);
  const used_while_stopped = tx.usedIdx;
  const stopped2 = states("stopped2");
  holder.kill(owner.pid, "SIGCONT");
  return {
    used_before,
    ...stopped,
    used_while_stopped,
    ...stopped2,
    ...states("cont"),
    used_after_cont_no_new_kick: tx.usedIdx,
    wait: killAndWait(vsock),
  };
}
