import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  main.setpriority(0, 7);
  main.schedSetscheduler(0, "SCHED_BATCH");
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  const { nice, policy } = main.stat(worker);
  main.setpriority(0, 12);
  return {
    worker_nice: nice,
    worker_policy: policy,
    owner_nice_after: main.stat(main.tid).nice,
    worker_nice_after_owner_change: main.stat(worker).nice,
    setpriority_on_worker_tid: main.setpriority(worker, 3),
    worker_nice_set: main.stat(worker).nice,
    worker_set_fifo: main.schedSetscheduler(worker, "SCHED_FIFO", { rtPriority: 5 }),
    worker_policy_set: main.stat(worker).policy,
  };
}
