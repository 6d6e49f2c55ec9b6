import type { Scene, Seen } from "../machine/index.js";
import { killAndWait, ownedVsock } from "../owned-vsock.js";

const GROUP = "/sys/fs/cgroup/c13";

export function run(scene: Scene): Seen {
  const vsock = ownedVsock(scene);
  const { holder, owner, worker, tx } = vsock;
  holder.mkdir(GROUP);
  holder.mkdir(`${GROUP}/leaf`);
  const frozen = (path: string) => holder.read(`${path}/cgroup.events`).split("\n")[1];
  holder.write(`${GROUP}/cgroup.freeze`, 1);
  const frozen_empty = frozen(GROUP);
  const move_in = holder.write(`${GROUP}/leaf/cgroup.procs`, owner.pid);
  holder.sendPackets(tx);
  const used_in_frozen = tx.usedIdx;
  const worker_moved = holder.cgroupOf(worker);
  const frozen_leaf = frozen(`${GROUP}/leaf`);
  const move_out = holder.write("/sys/fs/cgroup/cgroup.procs", owner.pid);
  return {
    frozen_empty,
    move_in,
    worker_moved,
    used_in_frozen,
    frozen_leaf,
    move_out,
    used_out: tx.usedIdx,
    wait: killAndWait(vsock),
  };
}
