import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const owner = main.fork();
  const fd = owner.open("/dev/vhost-vsock");
  owner.ioctl(fd, "VHOST_SET_OWNER");
  const thread = owner.pthreadCreate();
  thread.sigprocmask("SIG_BLOCK", ["SIGUSR1"]);
  const threads_before = owner.tasks().length;
  thread.exec("other");
  return {
    threads_before,
    threads_after: owner.tasks().length,
    thread_alive: thread.isAlive,
    leader_alive: owner.isAlive,
    comm: owner.stat(owner.tid).comm,
    mask_is_the_threads: owner.status(owner.tid).SigBlk,
    set_vring_num: owner.ioctl(fd, "VHOST_SET_VRING_NUM", { index: 0, num: 8 }),
    set_owner: owner.ioctl(fd, "VHOST_SET_OWNER"),
  };
}
