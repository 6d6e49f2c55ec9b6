import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  main.schedSetaffinity(0, [1]);
  const bound = main.ioUringSetup({ sqpoll: true, sqThreadCpu: 0 });
  const sqp = threadNamed(main, "iou-sqp-") ?? 0;
  const bound_to = main.status(sqp).Cpus_allowed_list;
  const { flagNames } = main.stat(sqp);
  main.ioUringSubmit(bound, { opcode: "IORING_OP_OPENAT", path: "/f", flags: ["IOSQE_ASYNC"] });
  const worker_is_named_after_sqp = threadNamed(main, `iou-wrk-${sqp}`) !== undefined;
  const close = main.close(bound);
  return {
    bound_to,
    flags: flagNames.join("|"),
    worker_is_named_after_sqp,
    close,
    wrk_after_close: threadNamed(main, "iou-wrk-") !== undefined,
    sqp_after_close: threadNamed(main, "iou-sqp-") !== undefined,
  };
}
