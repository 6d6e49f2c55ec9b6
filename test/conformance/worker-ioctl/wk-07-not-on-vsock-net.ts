import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const seen: Seen = {};
  for (const kind of ["vsock", "net"]) {
    const fd = main.open(`/dev/vhost-${kind}`);
    seen[`${kind}_unowned`] = main.ioctl(fd, "VHOST_NEW_WORKER", { worker_id: 0 });
    main.ioctl(fd, "VHOST_SET_OWNER");
    seen[`${kind}_new`] = main.ioctl(fd, "VHOST_NEW_WORKER", { worker_id: 0 });
    seen[`${kind}_new_9`] = main.ioctl(fd, "VHOST_NEW_WORKER", { worker_id: 9 });
    seen[`${kind}_free_1`] = main.ioctl(fd, "VHOST_FREE_WORKER", { worker_id: 1 });
    seen[`${kind}_attach`] = main.ioctl(fd, "VHOST_ATTACH_VRING_WORKER", {
      index: 1,
      worker_id: 7,
    });
    seen[`${kind}_get_2`] = main.ioctl(fd, "VHOST_GET_VRING_WORKER", { index: 2 });
    seen[`${kind}_null`] = main.ioctl(fd, "VHOST_NEW_WORKER");
  }
  return seen;
}
