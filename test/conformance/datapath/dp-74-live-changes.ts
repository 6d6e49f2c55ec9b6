import type { Scene, Seen } from "../machine/index.js";
import { ProgramEventFd } from "../machine/ring.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  const { tx } = rig;
  const send = (kick: () => void): number => {
    rig.sendRequest();
    kick();
    rig.lastAvail();
    return tx.usedIdx;
  };
  send(() => rig.kick());
  tx.usedIdx = 100;
  const used_idx = send(() => rig.kick());
  const oldCall = tx.call;
  oldCall.read();
  const set_call = rig.useCall(new ProgramEventFd());
  const kick = new ProgramEventFd();
  const old = { index: 1, ring: tx };
  send(() => rig.kick());
  const calls = { old_call: oldCall.read(), new_call: tx.call.read() };
  const set_kick = rig.ioctl("VHOST_SET_VRING_KICK", { index: 1, eventfd: kick });
  const used_after_old_kick = send(() => rig.kick());
  kick.signal();
  main.sleep(0);
  const used_after_new_kick = tx.usedIdx;
  const unset_kick = rig.ioctl("VHOST_SET_VRING_KICK", { ...old, ring: undefined, fd: -1 });
  const used_after_unset_kick = send(() => kick.signal());
  const seen = { used_idx, set_call, ...calls, set_kick, used_after_old_kick };
  return { ...seen, used_after_new_kick, unset_kick, used_after_unset_kick };
}
