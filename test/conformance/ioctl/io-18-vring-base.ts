import type { Scene, Seen } from "../machine/index.js";

const BASES = [0, 1, 7, 8, 9, 32767, 32768, 65535, 65536, 4294967295];

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-vsock");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const get = (): number => {
    const arg = { index: 0, num: -1 };
    main.ioctl(fd, "VHOST_GET_VRING_BASE", arg);
    return arg.num;
  };
  const seen: Seen = { initial: get() };
  for (const num of BASES) {
    seen[`base_${num}`] = main.ioctl(fd, "VHOST_SET_VRING_BASE", { index: 0, num });
    seen[`get_after_${num}`] = get();
  }
  return seen;
}
