import { wholeMemory } from "../machine/descriptors.js";
import type { Scene, Seen } from "../machine/index.js";
import { HEADER_BYTES, VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  const [low, high] = [rig.alloc(4096), rig.alloc(4096)];
  const GPA = 0x8000_0000n;
  const set_mem_two_adjacent = rig.ioctl("VHOST_SET_MEM_TABLE", {
    regions: [
      wholeMemory(rig.memory),
      { guest_phys_addr: GPA, memory_size: 4096n, userspace_addr: BigInt(high) },
      { guest_phys_addr: GPA + 4096n, memory_size: 4096n, userspace_addr: BigInt(low) },
    ],
  });
  const packet = rig.packet();
  const bytes = new Uint8Array(rig.memory.buffer);
  bytes.set(bytes.slice(packet, packet + 20), high + 4096 - 20);
  bytes.set(bytes.slice(packet + 20, packet + HEADER_BYTES), low);
  rig.setTx({ addr: GPA + 4096n - 20n, len: HEADER_BYTES });
  rig.tx.publish(0);
  return { set_mem_two_adjacent, ...rig.kickAndSee("tx"), rx_used_idx: rig.rx.usedIdx };
}
