import { wholeMemory } from "../machine/descriptors.js";
import type { Scene, Seen } from "../machine/index.js";
import { PLAIN, VsockRig, WITH_EVENT_IDX } from "../machine/vsock-rig.js";

const LOG_ALL = 1n << 26n;
const KERNEL = 0xffff_8000_0000_0000n;
/** So far up that its bits would lie where no program has anything. */
const FAR = 1n << 63n;

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  const whole = wholeMemory(rig.memory);
  const log = BigInt(rig.alloc(4096));
  const features = (value: bigint) => rig.ioctl("VHOST_SET_FEATURES", value);
  const base = (value: bigint) => rig.ioctl("VHOST_SET_LOG_BASE", value);
  const table = (guest: bigint) => {
    const far = { ...whole, guest_phys_addr: guest };
    return rig.ioctl("VHOST_SET_MEM_TABLE", { regions: [far] });
  };
  return {
    change_event_idx_running: features(WITH_EVENT_IDX),
    log_all_running_log_base_null: features(PLAIN | LOG_ALL),
    log_base_kernel_addr_while_log_all: base(KERNEL),
    log_off: features(PLAIN),
    log_base_kernel_addr_no_log_all: base(KERNEL),
    log_all_with_bad_base: features(PLAIN | LOG_ALL),
    log_base_good: base(log),
    log_all_with_good_base: features(PLAIN | LOG_ALL),
    set_mem_with_log: table(whole.guest_phys_addr ?? 0n),
    set_mem_gpa_beyond_log: table(FAR),
  };
}
