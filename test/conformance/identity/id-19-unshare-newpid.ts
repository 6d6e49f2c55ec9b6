import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  const unshare_newpid = main.unshare(["CLONE_NEWPID"]);
  const pthread_create = attempt(() => main.pthreadCreate());
  const fd = main.open("/dev/vhost-vsock");
  const set_owner = main.ioctl(fd, "VHOST_SET_OWNER");
  const set_vring_num_after = main.ioctl(fd, "VHOST_SET_VRING_NUM", { index: 0, num: 8 });
  const set_owner_again = main.ioctl(fd, "VHOST_SET_OWNER");
  const io_uring_sqpoll = attempt(() => main.ioUringSetup({ sqpoll: true }));
  main.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", 0);
  return {
    unshare_newpid,
    pthread_create,
    set_owner,
    set_vring_num_after,
    set_owner_again,
    io_uring_sqpoll,
    set_owner_kthread_mode: main.ioctl(fd, "VHOST_SET_OWNER"),
  };
}
