import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-scsi");
  main.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", 0);
  const set_owner = main.ioctl(fd, "VHOST_SET_OWNER");
  const vq0 = { index: 0, worker_id: -1 };
  const new_in_kthread_mode = main.ioctl(fd, "VHOST_NEW_WORKER", {});
  main.ioctl(fd, "VHOST_GET_VRING_WORKER", vq0);
  return {
    set_owner,
    new_in_kthread_mode,
    get_vq0: vq0.worker_id,
    attach_vq0_0: main.ioctl(fd, "VHOST_ATTACH_VRING_WORKER", { index: 0, worker_id: 0 }),
    free_0: main.ioctl(fd, "VHOST_FREE_WORKER", { worker_id: 0 }),
    threads_of_owner: main.tasks().length,
  };
}
