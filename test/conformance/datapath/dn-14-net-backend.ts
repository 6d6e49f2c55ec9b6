import type { Scene, Seen } from "../machine/index.js";
import { NetRig } from "../machine/net-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new NetRig(main);
  const { tx } = rig;
  const backend_unset = rig.setBackend(-1);
  rig.setGood(0);
  tx.publish(0);
  rig.kick();
  const used_no_backend = tx.usedIdx;
  const set_num_after_unset = rig.ioctl("VHOST_SET_VRING_NUM", { index: 1, num: 8 });
  const backend_set = rig.setBackend(rig.tap.fd);
  const used_backend_back_no_kick = tx.usedIdx;
  rig.kick();
  const seen = { backend_unset, used_no_backend, set_num_after_unset, backend_set };
  return {
    setup: rig.setup,
    ...seen,
    used_backend_back_no_kick,
    used_after_kick: tx.usedIdx,
    backend_devnull: rig.setBackend(main.open("/dev/null")),
    backend_badfd: rig.setBackend(999),
    backend_udp_socket: rig.setBackend(main.open("a socket of another kind")),
    backend_index2: rig.setBackend(rig.tap.fd, 2),
    backend_packet_socket: rig.setBackend(main.openTap().fd),
  };
}
