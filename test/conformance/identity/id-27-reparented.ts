import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main, parent }: Scene): Seen {
  const middle = main.fork();
  const owner = middle.fork();
  owner.ioctl(owner.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(owner, "vhost-") ?? 0;
  const before = parent.stat(worker).ppid === middle.pid;
  middle.exitGroup();
  return {
    ppid_before_is_parent: before,
    ppid_after: parent.stat(worker).ppid,
    owner_ppid_after: parent.stat(owner.tid).ppid,
    worker_state: parent.stat(worker).state,
  };
}
