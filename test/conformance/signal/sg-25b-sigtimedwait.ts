import type { Scene, Seen } from "../machine/index.js";
import { ownedVsock } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const { owner, holder, worker } = ownedVsock(scene, (main) => {
    main.sigprocmask("SIG_BLOCK", ["SIGUSR1", "SIGUSR2"]);
  });
  holder.kill(owner.pid, "SIGUSR2");
  holder.tgkill(owner.pid, worker, "SIGUSR1");
  const taken = owner.sigtimedwait(["SIGUSR1", "SIGUSR2"]);
  return {
    taken,
    none_left: scene.attempt(() => owner.sigtimedwait(["SIGUSR1", "SIGUSR2"])),
    worker_SigPnd: holder.status(worker).SigPnd,
    ShdPnd: holder.status(owner.tid).ShdPnd,
  };
}
