import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  main.setrlimit("NPROC", 1, 2);
  main.setuid(20050);
  const fd = main.open("/dev/vhost-vsock");
  const kthread_mode = main.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", 0);
  const set_owner = main.ioctl(fd, "VHOST_SET_OWNER");
  const threads_of_owner = main.tasks().length;
  const kthread = main.processes().find((pid) => main.stat(pid).comm === `vhost-${main.tid}`);
  main.setrlimit("NPROC", 2);
  return {
    kthread_mode,
    set_owner,
    threads_of_owner,
    kthread_uid: kthread && main.status(kthread).Uid,
    "pthread_create_limit_2_(kthread_not_counted)": attempt(() => main.pthreadCreate()),
  };
}
