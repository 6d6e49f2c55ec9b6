import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  const { tx } = rig;
  rig.sendRequest();
  const seen = rig.kickAndSee("old");
  tx.used = rig.alloc(4096);
  const set_addr_running = rig.ioctl("VHOST_SET_VRING_ADDR", { index: 1, ring: tx });
  rig.sendRequest();
  rig.kick();
  return {
    ...seen,
    set_addr_running,
    "new_used_idx(continues_from_last_used)": tx.usedIdx,
    new_used_ring_slot1_id: tx.usedEntry(1).id,
  };
}
