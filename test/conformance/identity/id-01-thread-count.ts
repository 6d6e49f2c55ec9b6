import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const threads = () => main.tasks().length;
  const threads_before = threads();
  const fd = main.open("/dev/vhost-vsock");
  const threads_after_open = threads();
  const set_owner = main.ioctl(fd, "VHOST_SET_OWNER");
  const threads_after_set_owner = threads();
  const worker = main.tasks().find((tid) => tid !== main.tid) ?? 0;
  const seen: Seen = {
    threads_before,
    threads_after_open,
    set_owner,
    threads_after_set_owner,
    Threads_line: Number(main.status(main.tid).Threads),
    worker_tid_gt_pid: worker > main.pid,
  };
  const second = main.open("/dev/vhost-vsock");
  main.ioctl(second, "VHOST_SET_OWNER");
  seen.threads_second_device = threads();
  const copy = main.dup(second);
  main.close(second);
  seen.threads_after_close_one_dup_left = threads();
  main.close(copy);
  seen.threads_after_last_close = threads();
  main.close(fd);
  return { ...seen, threads_end: threads() };
}
