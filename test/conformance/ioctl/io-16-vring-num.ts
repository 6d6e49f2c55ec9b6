import type { Scene, Seen } from "../machine/index.js";

const NUMS = [
  ...[0, 1, 2, 3, 5, 255, 256, 1023, 1024, 32767, 32768, 32769, 65535, 65536, 131072],
  ...[2147483648, 4294967295],
];

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-vsock");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const results = NUMS.map((num) => [
    `num_${num}`,
    main.ioctl(fd, "VHOST_SET_VRING_NUM", { index: 0, num }),
  ]);
  return Object.fromEntries(results);
}
