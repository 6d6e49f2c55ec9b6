import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-vsock");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const child = main.fork();
  const num = { index: 0, num: 8 };
  return {
    child_SET_OWNER: child.ioctl(fd, "VHOST_SET_OWNER"),
    child_SET_VRING_NUM: child.ioctl(fd, "VHOST_SET_VRING_NUM", num),
    child_SET_MEM_TABLE: child.ioctl(fd, "VHOST_SET_MEM_TABLE", {}),
    child_GET_FEATURES: child.ioctl(fd, "VHOST_GET_FEATURES", {}),
    child_SET_FEATURES: child.ioctl(fd, "VHOST_SET_FEATURES", 0),
    child_SET_FORK_FROM_OWNER: child.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", 1),
    child_GET_FORK_FROM_OWNER: child.ioctl(fd, "VHOST_GET_FORK_FROM_OWNER", {}),
    parent_SET_VRING_NUM: main.ioctl(fd, "VHOST_SET_VRING_NUM", num),
  };
}
