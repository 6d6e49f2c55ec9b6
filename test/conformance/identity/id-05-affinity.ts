import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  main.schedSetaffinity(0, [1]);
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  const list = (tid: number) => main.status(tid).Cpus_allowed_list;
  const inherited = list(worker);
  main.schedSetaffinity(0, [0, 1]);
  const after_owner_change = list(worker);
  const set_on_worker = main.schedSetaffinity(worker, [0]);
  main.ioUringSetup({ sqpoll: true });
  const sqp = threadNamed(main, "iou-sqp-") ?? 0;
  main.ioUringSubmitAsync(main.ioUringSetup(), "openat-fifo");
  const wrk = threadNamed(main, "iou-wrk-") ?? 0;
  return {
    inherited,
    after_owner_change,
    set_on_worker,
    worker_then: list(worker),
    owner_then: list(main.tid),
    set_on_sqp: main.schedSetaffinity(sqp, [1]),
    sqp_then: list(sqp),
    set_on_wrk: main.schedSetaffinity(wrk, [1]),
    wrk_then: list(wrk),
    set_nowhere: main.schedSetaffinity(worker, [77]),
  };
}
