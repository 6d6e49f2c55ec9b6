import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-scsi");
  const seen: Seen = {
    new: main.ioctl(fd, "VHOST_NEW_WORKER", {}),
    free: main.ioctl(fd, "VHOST_FREE_WORKER", { worker_id: 0 }),
    attach: main.ioctl(fd, "VHOST_ATTACH_VRING_WORKER", { index: 0, worker_id: 0 }),
    get: main.ioctl(fd, "VHOST_GET_VRING_WORKER", { index: 0 }),
    new_null: main.ioctl(fd, "VHOST_NEW_WORKER"),
    threads: main.tasks().length,
  };
  main.ioctl(fd, "VHOST_SET_OWNER");
  const child = main.fork();
  return {
    ...seen,
    child_new: child.ioctl(fd, "VHOST_NEW_WORKER", {}),
    child_free: child.ioctl(fd, "VHOST_FREE_WORKER", { worker_id: 0 }),
    child_attach: child.ioctl(fd, "VHOST_ATTACH_VRING_WORKER", { index: 0, worker_id: 0 }),
    child_get: child.ioctl(fd, "VHOST_GET_VRING_WORKER", { index: 0 }),
  };
}
