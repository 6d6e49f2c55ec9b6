import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  const rdonly_open = attempt(() => main.open("/dev/vhost-vsock", "O_RDONLY"));
  const rdonly = main.open("/dev/vhost-vsock", "O_RDONLY");
  return {
    rdonly_open,
    rdonly_SET_OWNER: main.ioctl(rdonly, "VHOST_SET_OWNER"),
    rdonly_SET_NUM: main.ioctl(rdonly, "VHOST_SET_VRING_NUM", { index: 0, num: 8 }),
    wronly_SET_OWNER: main.ioctl(main.open("/dev/vhost-vsock", "O_WRONLY"), "VHOST_SET_OWNER"),
    opath_SET_OWNER: main.ioctl(main.open("/dev/vhost-vsock", "O_PATH"), "VHOST_SET_OWNER"),
  };
}
