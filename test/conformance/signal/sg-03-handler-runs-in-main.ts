import type { Scene, Seen } from "../machine/index.js";
import { killAndWait, ownedVsock, sendOne } from "../owned-vsock.js";

export function run(scene: Scene): Seen {
  const by: number[] = [];
  const vsock = ownedVsock(scene, (owner) => owner.sigaction("SIGUSR1", (tid) => by.push(tid)));
  const { owner, holder } = vsock;
  const second = owner.pthreadCreate();
  holder.kill(owner.pid, "SIGUSR1");
  owner.sigprocmask("SIG_BLOCK", ["SIGUSR1"]);
  holder.kill(owner.pid, "SIGUSR1");
  return {
    runs: by.length,
    first_by_main: by[0] === owner.tid,
    second_by_other_user_thread: by[1] === second.tid,
    used: sendOne(vsock),
    wait: killAndWait(vsock),
  };
}
