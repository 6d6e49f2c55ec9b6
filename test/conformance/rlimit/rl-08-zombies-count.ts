import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  main.setrlimit("NPROC", 2, 10);
  main.setuid(20008);
  const child = main.fork();
  const fd = main.open("/dev/vhost-vsock");
  const set_owner_two_tasks = main.ioctl(fd, "VHOST_SET_OWNER");
  child.exitGroup(3);
  const set_owner_zombie = main.ioctl(fd, "VHOST_SET_OWNER");
  const wait = main.wait(child.pid);
  return {
    set_owner_two_tasks,
    set_owner_zombie,
    wait,
    set_owner_reaped: main.ioctl(fd, "VHOST_SET_OWNER"),
    fork_then: attempt(() => main.fork()),
  };
}
