import type { Scene, Seen } from "../machine/index.js";

const GROUP = "/sys/fs/cgroup/c07";
const OTHER = "/sys/fs/cgroup/c07b";

export function run({ main }: Scene): Seen {
  main.mkdir(GROUP);
  main.mkdir(OTHER);
  main.write(`${GROUP}/cgroup.procs`, 0);
  main.write(`${GROUP}/pids.max`, 1);
  const fd = main.open("/dev/vhost-vsock");
  main.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", 0);
  const set_owner = main.ioctl(fd, "VHOST_SET_OWNER");
  const worker =
    main.processes().find((pid) => main.stat(pid).comm === `vhost-${main.tid}`) ?? main.tid;
  const pids_current = Number(main.read(`${GROUP}/pids.current`));
  const kthread_cgroup = main.cgroupOf(worker);
  const move_owner = main.write(`${OTHER}/cgroup.procs`, main.pid);
  return {
    set_owner_kthread_pids_max_1: set_owner,
    pids_current,
    kthread_cgroup,
    move_owner,
    kthread_cgroup_after_owner_move: main.cgroupOf(worker),
    move_kthread_explicitly: main.write(`${OTHER}/cgroup.procs`, worker),
    move_kthreadd: main.write(`${OTHER}/cgroup.procs`, 2),
  };
}
