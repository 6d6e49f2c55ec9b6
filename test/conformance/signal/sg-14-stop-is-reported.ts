import type { Scene, Seen } from "../machine/index.js";
import { killAndWait, ownedVsock, sendOne } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { owner, holder, worker } = vsock;
  holder.tgkill(owner.pid, worker, "SIGSTOP");
  const wait_stopped = holder.wait(owner.pid, "WUNTRACED");
  const nohang = holder.waitNoHang(owner.pid);
  holder.kill(owner.pid, "SIGCONT");
  return {
    wait_stopped,
    nohang,
    wait_continued: holder.wait(owner.pid, "WCONTINUED"),
    used: sendOne(vsock),
    wait: killAndWait(vsock),
  };
}
