import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

const GROUP = "/sys/fs/cgroup/c10";

export function run({ main, attempt }: Scene): Seen {
  main.mkdir(GROUP);
  main.write(`${GROUP}/pids.max`, 2);
  const child = main.clone([], "SIGCHLD", GROUP);
  const child_cgroup = main.cgroupOf(child.tid);
  const set_owner = child.ioctl(child.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(child, "vhost-") ?? 0;
  const second = attempt(() => main.clone([], "SIGCHLD", GROUP));
  main.kill(child.pid, "SIGKILL");
  const populated_zombie = main.read(`${GROUP}/cgroup.events`).split("\n")[0];
  return {
    child_cgroup,
    main_cgroup: main.cgroupOf(main.tid),
    set_owner,
    worker_found: worker !== 0,
    second,
    events: main.read(`${GROUP}/pids.events`),
    populated_zombie,
    wait: main.wait(child.pid),
    pids_current: Number(main.read(`${GROUP}/pids.current`)),
    rmdir: main.rmdir(GROUP),
  };
}
