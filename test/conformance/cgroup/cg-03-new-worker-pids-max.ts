import type { Scene, Seen } from "../machine/index.js";

const GROUP = "/sys/fs/cgroup/c03";

export function run({ main }: Scene): Seen {
  main.mkdir(GROUP);
  main.write(`${GROUP}/cgroup.procs`, 0);
  main.write(`${GROUP}/pids.max`, 3);
  const fd = main.open("/dev/vhost-scsi");
  const set_owner = main.ioctl(fd, "VHOST_SET_OWNER");
  const new_worker = main.ioctl(fd, "VHOST_NEW_WORKER", {});
  const new_worker_full = main.ioctl(fd, "VHOST_NEW_WORKER", {});
  const free = main.ioctl(fd, "VHOST_FREE_WORKER", { worker_id: 1 });
  return {
    set_owner,
    new_worker,
    new_worker_full,
    free,
    new_worker_again: main.ioctl(fd, "VHOST_NEW_WORKER", {}),
    pids_current: Number(main.read(`${GROUP}/pids.current`)),
    pids_peak: Number(main.read(`${GROUP}/pids.peak`)),
    events: main.read(`${GROUP}/pids.events`),
  };
}
