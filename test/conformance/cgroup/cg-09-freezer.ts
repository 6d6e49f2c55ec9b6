import type { Scene, Seen } from "../machine/index.js";
import { killAndWait, ownedVsock, sendOne } from "../owned-vsock.js";

const GROUP = "/sys/fs/cgroup/c09";

export function run(scene: Scene): Seen {
  scene.main.mkdir(GROUP);
  const vsock = ownedVsock(scene, (owner) => owner.write(`${GROUP}/cgroup.procs`, 0));
  const { owner, holder, worker, tx } = vsock;
  const frozen = () => Number(/frozen (\d)/.exec(holder.read(`${GROUP}/cgroup.events`))?.[1]);
  const used_before = sendOne(vsock);
  const freeze = holder.write(`${GROUP}/cgroup.freeze`, 1);
  const seen: Seen = {
    used_before,
    freeze,
    frozen_event: frozen(),
    frozen_main_state: holder.stat(owner.tid).state,
    frozen_worker_state: holder.stat(worker).state,
  };
  holder.sendPackets(tx);
  seen.used_while_frozen = tx.usedIdx;
  seen.thaw = holder.write(`${GROUP}/cgroup.freeze`, 0);
  seen.frozen_event_after = frozen();
  seen.used_after_thaw = tx.usedIdx;
  seen.used_next = sendOne(vsock);
  return { ...seen, wait: killAndWait(vsock) };
}
