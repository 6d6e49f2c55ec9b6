import type { Scene, Seen } from "../machine/index.js";

const GROUP = "/sys/fs/cgroup/c01";

export function run({ main }: Scene): Seen {
  main.mkdir(GROUP);
  const pids = () => Number(main.read(`${GROUP}/pids.current`));
  const join = main.write(`${GROUP}/cgroup.procs`, 0);
  const pids_before = pids();
  const fd = main.open("/dev/vhost-vsock");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const worker = main.tasks().find((tid) => tid !== main.tid) ?? 0;
  const pids_after_set_owner = pids();
  const has = (file: string) => main.read(`${GROUP}/${file}`).split("\n").includes(`${worker}`);
  const seen = {
    join,
    pids_before,
    pids_after_set_owner,
    worker_cgroup: main.cgroupOf(worker),
    "worker_in_cgroup.procs": has("cgroup.procs"),
    "worker_in_cgroup.threads": has("cgroup.threads"),
  };
  main.close(fd);
  return { ...seen, pids_after_close: pids() };
}
