import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  main.setrlimit("NPROC", 3, 3);
  main.setuid(20020);
  const fd = main.open("/dev/vhost-scsi");
  const set_owner = main.ioctl(fd, "VHOST_SET_OWNER");
  const first = { worker_id: 0 };
  const new_worker_1 = main.ioctl(fd, "VHOST_NEW_WORKER", first);
  const new_worker_2 = main.ioctl(fd, "VHOST_NEW_WORKER", {});
  const free_1 = main.ioctl(fd, "VHOST_FREE_WORKER", first);
  const again = { worker_id: 0 };
  const new_worker_after_free = main.ioctl(fd, "VHOST_NEW_WORKER", again);
  return {
    set_owner,
    new_worker_1,
    new_worker_2,
    free_1,
    new_worker_after_free,
    id: again.worker_id,
  };
}
