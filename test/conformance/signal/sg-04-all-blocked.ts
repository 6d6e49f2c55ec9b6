import type { Scene, Seen } from "../machine/index.js";
import { killAndWait, ownedVsock, sendOne } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  let handler_runs = 0;
  const vsock = ownedVsock(scene, (owner) => {
    owner.sigaction("SIGUSR1", () => handler_runs++);
    owner.sigaction("SIGTERM", () => handler_runs++);
    owner.sigprocmask("SIG_BLOCK", ["SIGUSR1", "SIGTERM"]);
  });
  const { owner, holder, worker } = vsock;
  holder.kill(owner.pid, "SIGUSR1");
  holder.kill(owner.pid, "SIGTERM");
  const used = sendOne(vsock);
  return {
    handler_runs,
    ShdPnd: holder.status(owner.tid).ShdPnd,
    worker_SigPnd: holder.status(worker).SigPnd,
    worker_state: holder.stat(worker).state,
    used,
    main_state: holder.stat(owner.tid).state,
    wait: killAndWait(vsock),
  };
}
