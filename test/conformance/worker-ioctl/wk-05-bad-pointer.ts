import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-scsi");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const new_null = main.ioctl(fd, "VHOST_NEW_WORKER");
  const threads_after = main.tasks().length;
  return {
    new_null,
    threads_after,
    free_leaked_1: main.ioctl(fd, "VHOST_FREE_WORKER", { worker_id: 1 }),
    threads_then: main.tasks().length,
    free_null: main.ioctl(fd, "VHOST_FREE_WORKER"),
    attach_null: main.ioctl(fd, "VHOST_ATTACH_VRING_WORKER"),
    get_null: main.ioctl(fd, "VHOST_GET_VRING_WORKER"),
    free_minus_1: main.ioctl(fd, "VHOST_FREE_WORKER", { worker_id: -1 }),
    attach_vq_minus_1: main.ioctl(fd, "VHOST_ATTACH_VRING_WORKER", { index: -1, worker_id: 0 }),
  };
}
