import type { Scene, Seen } from "../machine/index.js";
import { VsockRig, WITH_EVENT_IDX } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { features: WITH_EVENT_IDX, num: 16, rxBuffers: 14 });
  const { tx } = rig;
  const send = (name: string, usedEvent: number, count = 1, hasEvent = true): Seen => {
    tx.usedEvent = usedEvent;
    for (let i = 0; i < count; i++) rig.sendRequest(i);
    const seen: Seen = rig.kickAndSee(name);
    return hasEvent ? { ...seen, [`${name}_avail_event`]: tx.availEvent } : seen;
  };
  return {
    ...send("p1", 1000),
    ...send("p2", 1000),
    ...send("p3", 2, 1, false),
    ...send("p4", 2, 1, false),
    ...send("p7", 6, 3),
    ...send("p9", 9, 2),
  };
}
