import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const owner = main.fork();
  const fd = owner.open("/dev/vhost-vsock", "O_RDWR | O_CLOEXEC");
  const rings = owner.mapVsockRings();
  owner.ioctl(fd, "VHOST_SET_OWNER");
  owner.startVsock(fd, 42, rings);
  owner.exec("other");
  const fresh = owner.open("/dev/vhost-vsock");
  return {
    threads: owner.tasks().length,
    ioctl_on_old_fd_number: fresh === fd ? "reused" : owner.ioctl(fd, "VHOST_GET_FEATURES", {}),
    set_owner: owner.ioctl(fresh, "VHOST_SET_OWNER"),
    same_cid: owner.ioctl(fresh, "VHOST_VSOCK_SET_GUEST_CID", 42),
  };
}
