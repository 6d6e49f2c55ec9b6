import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  const fd = main.open("/dev/vhost-vsock");
  while (main.nrThreads < 40) main.clone(["CLONE_VM"]);
  const set = main.setThreadsMax(main.nrThreads);
  return {
    set,
    fork_root: attempt(() => main.fork()),
    set_owner_root: main.ioctl(fd, "VHOST_SET_OWNER"),
    sqpoll_root: attempt(() => main.ioUringSetup({ sqpoll: true })),
    kthread_mode: main.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", 0),
    set_owner_kthread_mode: main.ioctl(fd, "VHOST_SET_OWNER"),
    raise: main.setThreadsMax(main.nrThreads + 1),
    set_owner_then: main.ioctl(fd, "VHOST_SET_OWNER"),
  };
}
