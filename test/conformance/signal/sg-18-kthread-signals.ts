import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-vsock");
  const rings = main.mapVsockRings();
  const owner = main.fork();
  owner.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", 0);
  owner.ioctl(fd, "VHOST_SET_OWNER");
  owner.startVsock(fd, 42, rings);
  const kthread = main.processes().find((pid) => main.stat(pid).comm === `vhost-${owner.pid}`) ?? 0;
  const sigkill = main.kill(kthread, "SIGKILL");
  const sigstop = main.kill(kthread, "SIGSTOP");
  main.sendPackets(rings.tx);
  const used_after_signals = rings.tx.usedIdx;
  main.kill(owner.pid, "SIGSTOP");
  const owner_state = main.stat(owner.tid).state;
  main.sendPackets(rings.tx);
  return {
    sigkill,
    sigstop,
    kthread_state: main.stat(kthread).state,
    used_after_signals,
    owner_state,
    used_while_owner_stopped: rings.tx.usedIdx,
    flush_while_owner_stopped: main.ioctl(fd, "VHOST_GET_FORK_FROM_OWNER", {}),
    ptrace: main.ptrace("PTRACE_SEIZE", kthread),
  };
}
