import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-vsock");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const child = main.clone(["CLONE_VM", "CLONE_FILES"]);
  return {
    SET_VRING_NUM: child.ioctl(fd, "VHOST_SET_VRING_NUM", { index: 0, num: 8 }),
    SET_OWNER: child.ioctl(fd, "VHOST_SET_OWNER"),
    different_tgid: child.pid !== main.pid,
  };
}
