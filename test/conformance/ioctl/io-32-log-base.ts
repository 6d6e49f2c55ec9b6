import type { Scene, Seen } from "../machine/index.js";

const BASES = [0n, 1n, 0xb0fn, 0x10000n, 0xffff800000000000n, 0xffffffffffffffffn];

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-vsock");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const seen: Seen = {};
  for (const base of BASES) {
    seen[`log_base_${base.toString(16)}_idle`] = main.ioctl(fd, "VHOST_SET_LOG_BASE", base);
  }
  return { ...seen, badptr: main.ioctl(fd, "VHOST_SET_LOG_BASE") };
}
