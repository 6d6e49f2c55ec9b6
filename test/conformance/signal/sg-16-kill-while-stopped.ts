import type { Scene, Seen } from "../machine/index.js";
import { isGone, ownedVsock } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { owner, holder, fd, worker, tx } = vsock;
  holder.kill(owner.pid, "SIGSTOP");
  holder.sendPackets(tx);
  const pending = holder.beginIoctl(fd, "VHOST_GET_FORK_FROM_OWNER", {});
  const flush_done_while_stopped = pending.done;
  const other = scene.parent;
  const kill = other.kill(owner.pid, "SIGKILL");
  return {
    flush_done_while_stopped,
    kill,
    flush_done_after_kill: pending.done,
    flush_result: pending.result,
    worker_gone: isGone(vsock, worker),
    wait: holder.wait(owner.pid),
  };
}
