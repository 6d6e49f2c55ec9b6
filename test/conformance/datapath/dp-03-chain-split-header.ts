import { readHeader } from "#dist/vsock/header.js";
import type { Scene, Seen } from "../machine/index.js";
import { NEXT, VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { rxBuffers: 0 });
  const [first = 0] = [0, 1, 2, 3].map((index) => rig.postRx(index, 512));
  const addr = rig.packet();
  rig.setTx({ addr, len: 20, flags: NEXT, next: 1 }, { addr: addr + 20, len: 24 });
  rig.tx.publish(0);
  const seen = rig.kickAndSee("tx");
  const { id, len } = rig.rx.usedEntry(0);
  const header = readHeader(rig.at(first));
  return {
    ...seen,
    rx_used_idx: rig.rx.usedIdx,
    rx0_id: id,
    rx0_len: len,
    rx0_op: header.op,
    rx0_type: header.type,
    rx0_src_cid: header.srcCid,
    rx0_dst_cid: header.dstCid,
    rx0_src_port: header.srcPort,
    rx0_dst_port: header.dstPort,
    rx0_hdr_len: header.len,
  };
}
