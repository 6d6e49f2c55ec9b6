import type { Scene, Seen } from "../machine/index.js";
import { prepare, taskFields, threadNamed } from "../task-fields.js";

export function run(scene: Scene): Seen {
  const main = prepare(scene);
  let ring = 0;
  const io_uring_setup = scene.attempt(() => {
    ring = main.ioUringSetup();
  });
  main.pipe();
  main.ioUringSubmitAsync(ring);
  const tid = threadNamed(main, "iou-wrk-");
  if (tid === undefined) return { io_uring_setup, found: false };
  return { io_uring_setup, found: true, ...taskFields(main, tid) };
}
