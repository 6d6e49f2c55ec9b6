import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const seen: Seen = {};
  for (const limit of [0, 1, 2]) {
    const child = main.fork();
    child.setrlimit("NPROC", limit, limit);
    child.setuid(20090 + limit);
    const fd = child.open("/dev/vhost-vsock");
    seen[`N1_L${limit}`] = child.ioctl(fd, "VHOST_SET_OWNER");
    seen.raise_hard_unprivileged = child.setrlimit("NPROC", limit, limit + 1);
  }
  return seen;
}
