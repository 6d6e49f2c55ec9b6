import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { isRunning: false });
  rig.sendRequest();
  rig.kick();
  const before_used_idx = rig.tx.usedIdx;
  const running = rig.ioctl("VHOST_VSOCK_SET_RUNNING", 1);
  const after_running_used_idx = rig.tx.usedIdx;
  rig.kick();
  return { before_used_idx, running, after_running_used_idx, after_kick_used_idx: rig.tx.usedIdx };
}
