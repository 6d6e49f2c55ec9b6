import type { Scene, Seen } from "../machine/index.js";
import { killAndWait, ownedVsock } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { owner, holder, worker, tx } = vsock;
  holder.tgkill(owner.pid, worker, "SIGTSTP");
  const state_after_tstp_to_worker = holder.stat(owner.tid).state;
  const pending = holder.status(worker).SigPnd;
  holder.kill(owner.pid, "SIGTSTP");
  const state_in_orphaned_group = holder.stat(owner.tid).state;
  const setpgid = owner.setpgid(0, 0);
  holder.kill(owner.pid, "SIGTSTP");
  const states = [owner.tid, worker].map((tid) => holder.stat(tid).state).join("");
  holder.sendPackets(tx);
  const used_while_stopped = tx.usedIdx;
  holder.kill(owner.pid, "SIGCONT");
  return {
    state_after_tstp_to_worker,
    pending,
    state_in_orphaned_group,
    setpgid,
    states,
    used_while_stopped,
    used_after_cont: tx.usedIdx,
    pending_after_cont: holder.status(worker).SigPnd,
    wait: killAndWait(vsock),
  };
}
