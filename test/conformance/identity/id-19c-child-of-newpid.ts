import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main, attempt }: Scene): Seen {
  main.unshare(["CLONE_NEWPID"]);
  const child = main.fork();
  const set_owner = child.ioctl(child.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(child, "vhost-") ?? 0;
  const ns = main.ns(worker);
  return {
    set_owner,
    worker_pid_ns_is_childs: ns.pid === main.ns(child.tid).pid,
    worker_pid_ns_is_mains: ns.pid === main.ns(main.tid).pid,
    child_pthread: attempt(() => child.pthreadCreate()),
    unshare_again: main.unshare(["CLONE_NEWPID"]),
  };
}
