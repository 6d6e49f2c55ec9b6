import type { Scene, Seen } from "../machine/index.js";
import { prepare, taskFields, threadNamed } from "../task-fields.js";

export function run(scene: Scene): Seen {
  const main = prepare(scene);
  const io_uring_setup_sqpoll = scene.attempt(() => main.ioUringSetup({ sqpoll: true }));
  const tid = threadNamed(main, "iou-sqp-");
  if (tid === undefined) return { io_uring_setup_sqpoll, found: false };
  return { io_uring_setup_sqpoll, found: true, ...taskFields(main, tid) };
}
