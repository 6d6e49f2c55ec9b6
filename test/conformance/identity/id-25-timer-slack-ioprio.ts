import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  main.prctl("PR_SET_TIMERSLACK", 123_456);
  main.ioprioSet(0, 2, 3);
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  main.prctl("PR_SET_TIMERSLACK", 7);
  main.ioprioSet(0, 3);
  return {
    timerslack_inherited: main.timerSlackNs(worker),
    ioprio_inherited: main.ioprioGet(worker),
    ioprio_owner: main.ioprioGet(0),
  };
}
