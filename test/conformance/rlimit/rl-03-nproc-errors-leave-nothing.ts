import type { Scene, Seen } from "../machine/index.js";

export function run({ main, parent }: Scene): Seen {
  parent.mkdir("/sys/fs/cgroup/r03");
  parent.write("/sys/fs/cgroup/r03/cgroup.procs", main.pid);
  main.setrlimit("NPROC", 1, 10);
  main.setuid(20003);
  const fd = main.open("/dev/vhost-vsock");
  const tries = Array.from({ length: 20 }, () => main.ioctl(fd, "VHOST_SET_OWNER"));
  const pids_current = Number(main.read("/sys/fs/cgroup/r03/pids.current"));
  const pids_events = main.read("/sys/fs/cgroup/r03/pids.events");
  main.setrlimit("NPROC", 2);
  return {
    all_ENOMEM: tries.every((result) => result === "ENOMEM"),
    pids_current,
    pids_events,
    set_owner_limit_2: main.ioctl(fd, "VHOST_SET_OWNER"),
    get_features: main.ioctl(fd, "VHOST_GET_FEATURES", {}),
  };
}
