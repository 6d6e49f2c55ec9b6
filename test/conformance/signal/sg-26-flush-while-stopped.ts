import type { Scene, Seen } from "../machine/index.js";
import { killAndWait, ownedVsock } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { owner, holder, fd } = vsock;
  const caller = holder.fork();
  holder.kill(owner.pid, "SIGSTOP");
  const call = caller.beginIoctl(fd, "VHOST_GET_FORK_FROM_OWNER", {});
  const caller_state = holder.stat(caller.tid).state;
  const ioctl_finished_while_stopped = call.done;
  holder.kill(owner.pid, "SIGCONT");
  return {
    ioctl_started: caller.isAlive,
    ioctl_finished_while_stopped,
    caller_state,
    ioctl_finished_after_cont: call.done,
    wait: killAndWait(vsock),
  };
}
