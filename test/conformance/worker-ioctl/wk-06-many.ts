import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-scsi");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const arg = { worker_id: -1 };
  let created = 0;
  for (let worker = 0; worker < 64; worker++) {
    if (main.ioctl(fd, "VHOST_NEW_WORKER", arg) === "OK") created++;
  }
  const names = main.tasks().map((tid) => main.stat(tid).comm);
  return {
    created,
    last_id: arg.worker_id,
    threads: names.length,
    threads_named_vhost_pid: names.filter((name) => name === `vhost-${main.pid}`).length,
    close_fast: main.close(fd) === "OK",
    threads_after_close: main.tasks().length,
  };
}
