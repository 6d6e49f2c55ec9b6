import type { Scene, Seen } from "../machine/index.js";
import { ProgramEventFd } from "../machine/ring.js";
import { VsockRig } from "../machine/vsock-rig.js";

/** An eventfd whose counter is not 0. */
function preset(count: number): ProgramEventFd {
  const eventfd = new ProgramEventFd();
  for (let i = 0; i < count; i++) eventfd.signal();
  return eventfd;
}

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { isRunning: false });
  const { tx } = rig;
  const setKick = (eventfd: ProgramEventFd) =>
    rig.ioctl("VHOST_SET_VRING_KICK", { index: 1, eventfd });
  rig.sendRequest();
  const first = preset(1);
  setKick(first);
  const running = rig.ioctl("VHOST_VSOCK_SET_RUNNING", 1);
  const used_idx_after_running = tx.usedIdx;
  const same_kick = setKick(first);
  const used_idx_after_same_kick = tx.usedIdx;
  const other = preset(5);
  return {
    running,
    used_idx_after_running,
    same_kick,
    used_idx_after_same_kick,
    new_kick: setKick(other),
    used_idx_after_new_kick: tx.usedIdx,
    kick_counter_left: other.read(),
  };
}
