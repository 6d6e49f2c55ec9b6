import type { Scene, Seen } from "../machine/index.js";
import { prepare, taskFields, threadNamed } from "../task-fields.js";

export function run(scene: Scene): Seen {
  const main = prepare(scene);
  const set_owner = main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-");
  return { set_owner, ...(worker === undefined ? {} : taskFields(main, worker)) };
}
