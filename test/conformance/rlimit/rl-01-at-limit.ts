import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  main.setrlimit("NPROC", 1, 10);
  main.setuid(20001);
  const fd = main.open("/dev/vhost-vsock");
  const set_owner = main.ioctl(fd, "VHOST_SET_OWNER");
  const pthread_create = attempt(() => main.pthreadCreate());
  const fork = attempt(() => main.fork());
  const set_num = main.ioctl(fd, "VHOST_SET_VRING_NUM", { index: 0, num: 8 });
  main.setrlimit("NPROC", 2);
  return {
    set_owner,
    pthread_create,
    fork,
    device_still_unowned_set_num: set_num,
    set_owner_same_fd_after_raising_to_2: main.ioctl(fd, "VHOST_SET_OWNER"),
    threads: main.tasks().length,
  };
}
