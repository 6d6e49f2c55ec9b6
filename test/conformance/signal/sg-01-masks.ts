import type { Scene, Seen } from "../machine/index.js";
import { ownedVsock } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const { owner, holder, worker } = ownedVsock(scene, (main) => {
    main.sigaction("SIGUSR1", () => {});
    main.sigprocmask("SIG_BLOCK", ["SIGUSR2"]);
  });
  const status = holder.status(worker);
  return {
    worker_SigBlk: status.SigBlk,
    worker_SigCgt: status.SigCgt,
    worker_SigPnd: status.SigPnd,
    owner_SigBlk: holder.status(owner.tid).SigBlk,
    kill_0_worker: holder.kill(worker, 0),
    tgkill_0_worker: holder.tgkill(owner.pid, worker, 0),
    tgkill_0_wrong_tgid: holder.tgkill(holder.pid, worker, 0),
  };
}
