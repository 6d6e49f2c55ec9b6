import type { Scene, Seen } from "../machine/index.js";
import { killAndWait, ownedVsock, sendOne } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { owner, holder, worker } = vsock;
  const send = (sig: "SIGTERM" | "SIGSEGV" | "SIGUSR1" | "SIGINT" | "SIGCHLD") =>
    holder.tgkill(owner.pid, worker, sig);
  return {
    SIGTERM: send("SIGTERM"),
    SIGSEGV: send("SIGSEGV"),
    SIGUSR1: send("SIGUSR1"),
    SIGINT: send("SIGINT"),
    SIGCHLD: send("SIGCHLD"),
    real_time: holder.tgkill(owner.pid, worker, 34),
    worker_SigPnd: holder.status(worker).SigPnd,
    ShdPnd: holder.status(worker).ShdPnd,
    owner_SigPnd: holder.status(owner.tid).SigPnd,
    alive: owner.isAlive,
    used: sendOne(vsock),
    wait: killAndWait(vsock),
  };
}
