import type { Scene, Seen } from "../machine/index.js";
import type { Proc } from "../machine/proc.js";
import { threadNamed } from "../task-fields.js";

/** What the worker of a new device is like. */
function worker(main: Proc) {
  const fd = main.open("/dev/vhost-vsock");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const stat = main.stat(threadNamed(main, "vhost-") ?? 0);
  main.close(fd);
  return stat;
}

export function run({ main }: Scene): Seen {
  const fifo = main.schedSetscheduler(0, "SCHED_FIFO", { rtPriority: 9 });
  const plain = worker(main);
  const params = { rtPriority: 9, resetOnFork: true };
  const fifo_reset_on_fork = main.schedSetscheduler(0, "SCHED_FIFO", params);
  const reset = worker(main);
  return {
    fifo,
    worker_policy: plain.policy,
    worker_rt_prio: plain.rt_priority,
    fifo_reset_on_fork,
    worker_policy_reset: reset.policy,
    worker_rt_prio_reset: reset.rt_priority,
    worker_nice_reset: reset.nice,
  };
}
