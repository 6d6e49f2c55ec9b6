import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

const GROUP = "/sys/fs/cgroup/c15";

export function run({ main }: Scene): Seen {
  main.mkdir(GROUP);
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  const cpus = (tid: number) => main.status(tid).Cpus_allowed_list;
  const set = main.write(`${GROUP}/cpuset.cpus`, "1");
  const join = main.write(`${GROUP}/cgroup.procs`, main.pid);
  const worker_joined = cpus(worker);
  const set_to_0 = main.write(`${GROUP}/cpuset.cpus`, "0");
  return {
    set,
    join,
    worker_joined,
    set_to_0,
    worker_then: cpus(worker),
    owner_then: cpus(main.tid),
    affinity_outside: main.schedSetaffinity(worker, [1]),
    effective: main.read(`${GROUP}/cpuset.cpus.effective`),
  };
}
