import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-vsock");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const child = main.fork();
  return {
    child_threads: child.tasks().length,
    child_SET_VRING_NUM: child.ioctl(fd, "VHOST_SET_VRING_NUM", { index: 0, num: 8 }),
    child_has_PF_USER_WORKER: child.stat(child.tid).flagNames.includes("USER_WORKER"),
    parent_threads: main.tasks().length,
  };
}
