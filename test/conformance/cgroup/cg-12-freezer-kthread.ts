import type { Scene, Seen } from "../machine/index.js";

const GROUP = "/sys/fs/cgroup/c12";

export function run({ main }: Scene): Seen {
  main.mkdir(GROUP);
  const fd = main.open("/dev/vhost-vsock");
  const rings = main.mapVsockRings();
  const owner = main.fork();
  owner.write(`${GROUP}/cgroup.procs`, 0);
  owner.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", 0);
  const set_owner = owner.ioctl(fd, "VHOST_SET_OWNER");
  owner.startVsock(fd, 42, rings);
  const freeze = main.write(`${GROUP}/cgroup.freeze`, 1);
  main.sendPackets(rings.tx);
  return {
    set_owner,
    freeze,
    used_while_frozen: rings.tx.usedIdx,
    kill_frozen: main.kill(owner.pid, "SIGKILL"),
    wait: main.wait(owner.pid),
    freeze_2: main.write(`${GROUP}/cgroup.freeze`, 2),
    freeze_x: main.write(`${GROUP}/cgroup.freeze`, "x"),
  };
}
