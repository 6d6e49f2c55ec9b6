import type { Scene, Seen } from "../machine/index.js";

const PARENT = "/sys/fs/cgroup/c11";
const LEAF = `${PARENT}/leaf`;

export function run({ main }: Scene): Seen {
  main.mkdir(PARENT);
  const subtree = main.write(`${PARENT}/cgroup.subtree_control`, "+pids");
  main.mkdir(LEAF);
  const join = main.write(`${LEAF}/cgroup.procs`, 0);
  const parent_pids_max_1 = main.write(`${PARENT}/pids.max`, 1);
  const fd = main.open("/dev/vhost-vsock");
  const set_owner = main.ioctl(fd, "VHOST_SET_OWNER");
  const max = (file: string) => Number(/max (\d+)/.exec(main.read(file))?.[1]);
  return {
    subtree,
    join,
    parent_pids_max_1,
    set_owner,
    leaf_events_max: max(`${LEAF}/pids.events`),
    leaf_events_local_max: max(`${LEAF}/pids.events.local`),
    parent_events_max: max(`${PARENT}/pids.events`),
    parent_events_local_max: max(`${PARENT}/pids.events.local`),
    parent_pids_current: Number(main.read(`${PARENT}/pids.current`)),
    parent_pids_max_2: main.write(`${PARENT}/pids.max`, 2),
    set_owner_2: main.ioctl(fd, "VHOST_SET_OWNER"),
  };
}
