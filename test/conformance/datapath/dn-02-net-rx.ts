import type { Scene, Seen } from "../machine/index.js";
import { NET_HEADER_BYTES, NetRig, textOf } from "../machine/net-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new NetRig(main);
  const buffer = rig.postRx(0, 512);
  const sendto = rig.sendto(60);
  const { len } = rig.rx.usedEntry(0);
  const bytes = new Uint8Array(rig.rx.view.buffer, buffer, len);
  return {
    setup: rig.setup,
    sendto,
    ...rig.seen("rx", 0),
    rx_used0_len: len,
    rx_text: textOf(bytes.subarray(NET_HEADER_BYTES)),
    num_buffers_field: rig.rx.view.getUint16(buffer + 10, true),
  };
}
