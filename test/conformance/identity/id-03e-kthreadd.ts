import type { Scene, Seen } from "../machine/index.js";
import { prepare, taskFields } from "../task-fields.js";

export function run(scene: Scene): Seen {
  return taskFields(prepare(scene), 2);
}
