import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  const thread = main.pthreadCreate();
  const fd = main.open("/dev/vhost-vsock");
  const set_owner_from_thread = thread.ioctl(fd, "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  const { comm } = main.stat(worker);
  return {
    set_owner_from_thread,
    name_uses_calling_tid: comm === `vhost-${thread.tid}`,
    name_uses_tgid: comm === `vhost-${main.pid}`,
    worker_tgid_is_process: main.status(worker).Tgid === `${main.pid}`,
  };
}
