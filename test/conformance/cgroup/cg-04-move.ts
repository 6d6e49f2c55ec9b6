import type { Scene, Seen } from "../machine/index.js";

const A = "/sys/fs/cgroup/c04a";
const B = "/sys/fs/cgroup/c04b";

export function run({ main }: Scene): Seen {
  main.mkdir(A);
  main.mkdir(B);
  main.write(`${A}/cgroup.procs`, 0);
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = main.tasks().find((tid) => tid !== main.tid) ?? 0;
  const move_process = main.write(`${B}/cgroup.procs`, main.pid);
  const seen = {
    move_process,
    worker_cgroup_after_move: main.cgroupOf(worker),
    pids_new: Number(main.read(`${B}/pids.current`)),
    pids_old: Number(main.read(`${A}/pids.current`)),
    pids_max_1_below_current: main.write(`${B}/pids.max`, 1),
    worker_alive: main.tasks().includes(worker),
    write_worker_tid_to_procs: main.write(`${A}/cgroup.procs`, worker),
  };
  return {
    ...seen,
    main_cgroup: main.cgroupOf(main.tid),
    worker_cgroup: main.cgroupOf(worker),
  };
}
