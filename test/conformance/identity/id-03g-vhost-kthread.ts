import type { Scene, Seen } from "../machine/index.js";
import { prepare, taskFields } from "../task-fields.js";

export function run(scene: Scene): Seen {
  const main = prepare(scene);
  const fd = main.open("/dev/vhost-vsock");
  const set_kthread_mode = main.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", 0);
  const set_owner = main.ioctl(fd, "VHOST_SET_OWNER");
  const tid = main.processes().find((pid) => main.stat(pid).comm === `vhost-${main.tid}`);
  return {
    set_kthread_mode,
    set_owner,
    found_as_process: tid !== undefined,
    threads_of_owner: main.tasks().length,
    ...(tid === undefined ? {} : taskFields(main, tid)),
  };
}
