import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const [a, b] = [main.fork(), main.fork()];
  for (const process of [a, b]) process.setuid(20030);
  a.setrlimit("NPROC", 1000);
  const first = a.ioctl(a.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const fd = b.open("/dev/vhost-vsock");
  b.setrlimit("NPROC", 3);
  const at3 = b.ioctl(fd, "VHOST_SET_OWNER");
  b.setrlimit("NPROC", 4);
  return {
    A_set_owner_limit_1000: first,
    "B_set_owner_limit_3_(A=2,B=1)": at3,
    B_set_owner_limit_4: b.ioctl(fd, "VHOST_SET_OWNER"),
  };
}
