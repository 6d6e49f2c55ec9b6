import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  const by: number[] = [];
  const owner = main.fork();
  owner.sigaction("SIGCHLD", (tid) => by.push(tid));
  const fd = owner.open("/dev/vhost-vsock");
  owner.ioctl(fd, "VHOST_SET_OWNER");
  owner.close(fd);
  const after_worker_ended = by.length;
  const child = owner.fork();
  child.exitGroup(4);
  return {
    after_worker_ended,
    after_child_ended: by.length,
    taken_by_main: by[0] === owner.tid,
    wait_any: owner.waitNoHang(-1) === child.pid,
    wait_more: attempt(() => owner.waitNoHang(-1)),
  };
}
