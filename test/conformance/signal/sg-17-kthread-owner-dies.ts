import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-vsock");
  const rings = main.mapVsockRings();
  const owner = main.fork();
  owner.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", 0);
  owner.ioctl(fd, "VHOST_SET_OWNER");
  owner.startVsock(fd, 42, rings);
  main.sendPackets(rings.tx);
  const used_before = rings.tx.usedIdx;
  const kthread = main.processes().find((pid) => main.stat(pid).comm === `vhost-${owner.pid}`) ?? 0;
  main.kill(owner.pid, "SIGKILL");
  const wait = main.wait(owner.pid);
  rings.tx.call.read();
  main.sendPackets(rings.tx);
  return {
    used_before,
    wait,
    kthread_alive: main.processes().includes(kthread),
    used_after_kick: rings.tx.usedIdx,
    call_signals: rings.tx.call.read(),
    set_vring_num: main.ioctl(fd, "VHOST_SET_VRING_NUM", { index: 0, num: 8 }),
    set_owner: main.ioctl(fd, "VHOST_SET_OWNER"),
    close: main.close(fd),
    kthread_after_close: main.processes().includes(kthread),
  };
}
