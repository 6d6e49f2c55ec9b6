import type { Scene, Seen } from "../machine/index.js";

const GROUP = "/sys/fs/cgroup/c14";

export function run({ main }: Scene): Seen {
  main.mkdir(GROUP);
  main.mkdir(`${GROUP}/leaf`);
  const inner = main.clone([], "SIGCHLD", `${GROUP}/leaf`);
  const outer = main.fork();
  inner.ioctl(inner.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const kill_0 = main.write(`${GROUP}/cgroup.kill`, 0);
  const kill = main.write(`${GROUP}/cgroup.kill`, 1);
  return {
    kill_0,
    kill,
    wait: main.wait(inner.pid),
    outer_alive: outer.isAlive,
    populated: main.read(`${GROUP}/cgroup.events`).split("\n")[0],
    rmdir_leaf: main.rmdir(`${GROUP}/leaf`),
    rmdir: main.rmdir(GROUP),
  };
}
