import { setImmediate as nextTurn } from "node:timers/promises";
import type { VsockStream } from "#dist/vsock/stream.js";
import type { Scene, Seen } from "../machine/index.js";
import { HEADER_BYTES, VsockRig } from "../machine/vsock-rig.js";

const PORT = 9999;
/** Offset of `len` in a packet's header. */
const LEN = 24;

export async function run({ main, machine }: Scene): Promise<Seen> {
  const rig = new VsockRig(main, { num: 16, rxBuffers: 0 });
  const buffers = Array.from({ length: 8 }, (_, i) => rig.postRx(i, 64));
  let stream: VsockStream | undefined;
  rig.sockets.listen(PORT, (one) => {
    stream = one;
  });
  rig.setTx({ addr: rig.packet({ dstPort: PORT, bufAlloc: 65536 }), len: HEADER_BYTES });
  rig.tx.publish(0);
  rig.kick();
  await nextTurn();
  const message = Buffer.alloc(50, 7);
  stream?.write(message);
  await nextTurn();
  machine.settle();
  const seen: Seen = { host_send: message.length, rx_used_idx: rig.rx.usedIdx };
  for (const i of [1, 2, 3]) {
    const { id, len } = rig.rx.usedEntry(i);
    seen[`used${i}_len`] = len;
    seen[`used${i}_hdr_len`] = rig.at(buffers[id] ?? 0).getUint32(LEN, true);
  }
  return seen;
}
