import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

const GROUP = "/sys/fs/cgroup/c05";

export function run({ main }: Scene): Seen {
  for (const name of ["", "/a", "/b"]) main.mkdir(GROUP + name);
  const elsewhere = "/sys/fs/cgroup/c05x";
  main.mkdir(elsewhere);
  main.write(`${GROUP}/cgroup.procs`, 0);
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  const type_domain = main.read(`${GROUP}/cgroup.type`);
  const move_worker_alone_domain = main.write(`${elsewhere}/cgroup.threads`, worker);
  const threaded = main.write(`${GROUP}/a/cgroup.type`, "threaded");
  main.write(`${GROUP}/b/cgroup.type`, "threaded");
  const move_worker_alone = main.write(`${GROUP}/a/cgroup.threads`, worker);
  return {
    type_domain,
    move_worker_alone_domain,
    threaded,
    type_parent: main.read(`${GROUP}/cgroup.type`),
    type_child: main.read(`${GROUP}/a/cgroup.type`),
    move_worker_alone,
    worker_cgroup: main.cgroupOf(worker),
    main_cgroup: main.cgroupOf(main.tid),
    threads_in_a: main.read(`${GROUP}/a/cgroup.threads`) === `${worker}`,
    procs_in_parent: main.read(`${GROUP}/cgroup.procs`) === `${main.pid}`,
    move_process_to_b: main.write(`${GROUP}/b/cgroup.procs`, worker),
    worker_cgroup_then: main.cgroupOf(worker),
    main_cgroup_then: main.cgroupOf(main.tid),
  };
}
