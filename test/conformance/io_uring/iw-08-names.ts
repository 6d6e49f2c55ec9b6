import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  const thread = main.pthreadCreate();
  thread.ioUringSubmitAsync(main.ioUringSetup());
  main.ioUringSetup({ sqpoll: true });
  return {
    named_after_submitting_tid: threadNamed(main, `iou-wrk-${thread.tid}`) !== undefined,
    named_after_tgid: threadNamed(main, `iou-wrk-${main.pid}`) !== undefined,
    sqp_named_after_creator_pid: threadNamed(main, `iou-sqp-${main.pid}`) !== undefined,
  };
}
