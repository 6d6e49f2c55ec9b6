import type { Scene, Seen } from "../machine/index.js";
import { killAndWait, ownedVsock, sendOne } from "../owned-vsock.js";
import { threadNamed } from "../task-fields.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { owner, holder, worker, tx } = vsock;
  const states = (name: string): Seen => ({
    [`worker_state_${name}`]: holder.stat(worker).state,
    [`main_state_${name}`]: holder.stat(owner.tid).state,
  });
  const seen: Seen = { used_before: sendOne(vsock) };
  seen.PTRACE_ATTACH_worker = holder.ptrace("PTRACE_ATTACH", worker);
  seen.wait_after_attach = holder.wait(worker);
  Object.assign(seen, states("traced"));
  seen.used_while_traced = sendOne(vsock);
  seen.DETACH = holder.ptrace("PTRACE_DETACH", worker);
  Object.assign(seen, states("detached"));
  holder.kill(owner.pid, "SIGCONT");
  seen.used_after_detach_and_cont = sendOne(vsock);
  seen.PTRACE_SEIZE_worker = holder.ptrace("PTRACE_SEIZE", worker);
  seen.INTERRUPT = holder.ptrace("PTRACE_INTERRUPT", worker);
  seen.wait_after_interrupt = holder.wait(worker);
  seen.DETACH_2 = holder.ptrace("PTRACE_DETACH", worker);
  seen.used_end = sendOne(vsock);
  seen.PTRACE_SEIZE_kthreadd = holder.ptrace("PTRACE_SEIZE", 2);
  seen.wait = killAndWait(vsock);

  const poller = holder.fork();
  poller.ioUringSetup({ sqpoll: true });
  const sqp = threadNamed(poller, "iou-sqp-") ?? 0;
  seen.PTRACE_SEIZE_iou_sqp = holder.ptrace("PTRACE_SEIZE", sqp);
  seen.INTERRUPT_iou_sqp = holder.ptrace("PTRACE_INTERRUPT", sqp);
  seen.iou_sqp_wait = holder.wait(sqp);
  return { ...seen, used: tx.usedIdx };
}
