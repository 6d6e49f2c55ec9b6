import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main, attempt }: Scene): Seen {
  const fd = main.open("/dev/vhost-vsock");
  const deadline = main.schedSetscheduler(0, "SCHED_DEADLINE");
  const pthread_create = attempt(() => main.pthreadCreate());
  const set_owner = main.ioctl(fd, "VHOST_SET_OWNER");
  const sqpoll = attempt(() => main.ioUringSetup({ sqpoll: true }));
  const reset = main.schedSetscheduler(0, "SCHED_DEADLINE", { resetOnFork: true });
  const set_owner_reset = main.ioctl(fd, "VHOST_SET_OWNER");
  const { policy, nice } = main.stat(threadNamed(main, "vhost-") ?? 0);
  return { deadline, pthread_create, set_owner, sqpoll, reset, set_owner_reset, policy, nice };
}
