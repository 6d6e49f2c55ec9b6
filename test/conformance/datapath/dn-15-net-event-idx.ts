import type { Scene, Seen } from "../machine/index.js";
import { NetRig } from "../machine/net-rig.js";
import { WITH_EVENT_IDX } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new NetRig(main, WITH_EVENT_IDX);
  const { tx } = rig;
  const send = (name: string, usedEvent: number): Seen => {
    tx.usedEvent = usedEvent;
    rig.setGood(0);
    tx.publish(0);
    return rig.kickAndSee(name);
  };
  const first = { ...send("p1", 1000), p1_avail_event: tx.availEvent };
  const second = send("p2", 1000);
  const third = send("p3", tx.usedIdx); // == old
  return { setup: rig.setup, ...first, ...second, ...third, p3_avail_event: tx.availEvent };
}
