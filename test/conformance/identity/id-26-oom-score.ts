import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  main.setOomScoreAdj(main.tid, 100);
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  const inherited = main.oomScoreAdj(worker);
  main.setOomScoreAdj(main.tid, 555);
  const child = main.fork();
  main.setOomScoreAdj(main.tid, 777);
  return {
    inherited,
    worker_after_owner_change: main.oomScoreAdj(worker),
    child_has_a_copy: main.oomScoreAdj(child.tid),
    out_of_range: main.setOomScoreAdj(main.tid, 1001),
  };
}
