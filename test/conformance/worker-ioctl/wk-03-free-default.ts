import type { Scene, Seen } from "../machine/index.js";

const QUEUES = 130;

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-scsi");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const made = { worker_id: -1 };
  const result = main.ioctl(fd, "VHOST_NEW_WORKER", made);
  let attach_failures = 0;
  for (let index = 0; index < QUEUES; index++) {
    if (main.ioctl(fd, "VHOST_ATTACH_VRING_WORKER", { index, ...made }) !== "OK") attach_failures++;
  }
  const free_default_0 = main.ioctl(fd, "VHOST_FREE_WORKER", { worker_id: 0 });
  const threads = main.tasks().length;
  const vq0 = { index: 0, worker_id: -1 };
  main.ioctl(fd, "VHOST_GET_VRING_WORKER", vq0);
  const again = { worker_id: -1 };
  const new_again = main.ioctl(fd, "VHOST_NEW_WORKER", again);
  return {
    new: result,
    attach_failures,
    free_default_0,
    threads,
    vq0: vq0.worker_id,
    new_again,
    new_again_id: again.worker_id,
  };
}
