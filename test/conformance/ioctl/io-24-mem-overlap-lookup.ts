import { readHeader } from "#dist/vsock/header.js";
import type { Scene, Seen } from "../machine/index.js";
import { HEADER_BYTES, VsockRig, WRITE } from "../machine/vsock-rig.js";

const GPA = 0x8000_0000n;
const PAGE = 4096n;
/** Where the buffer for the reply is in either region. */
const REPLY = 1024;

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { rxBuffers: 0 });
  const [first, second] = [rig.alloc(4096), rig.alloc(4096)];
  const region = (at: number) => ({
    guest_phys_addr: GPA,
    memory_size: PAGE,
    userspace_addr: BigInt(at),
  });
  const set = rig.ioctl("VHOST_SET_MEM_TABLE", { regions: [region(first), region(second)] });
  rig.packet({ dstPort: 4444 }, first);
  rig.packet({ dstPort: 5555, srcCid: 77 }, second);
  rig.rx.setDesc(0, { addr: GPA + BigInt(REPLY), len: 512, flags: WRITE });
  rig.rx.publish(0);
  rig.setTx({ addr: GPA, len: HEADER_BYTES });
  rig.tx.publish(0);
  rig.kick();
  const replyIn = (at: number) => readHeader(rig.at(at + REPLY)).srcPort;
  return {
    set,
    reply_src_port_in_first_region: replyIn(first),
    reply_src_port_in_second_region: replyIn(second),
  };
}
