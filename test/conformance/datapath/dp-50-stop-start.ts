import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { rxBuffers: 6 });
  const { tx } = rig;
  rig.sendRequest();
  rig.kick();
  const used_1 = tx.usedIdx;
  const stop = rig.ioctl("VHOST_VSOCK_SET_RUNNING", 0);
  rig.sendRequest();
  rig.kick();
  const used_stopped = tx.usedIdx;
  const base_stopped = rig.lastAvail();
  const set_num_stopped = rig.ioctl("VHOST_SET_VRING_NUM", { index: 1, num: 8 });
  const start = rig.ioctl("VHOST_VSOCK_SET_RUNNING", 1);
  const used_restarted = tx.usedIdx;
  rig.kick();
  const seen = { used_1, stop, used_stopped, base_stopped, set_num_stopped, start };
  return { ...seen, used_restarted, used_restarted_kick: tx.usedIdx, base_end: rig.lastAvail() };
}
