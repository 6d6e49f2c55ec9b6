import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  const unshare_newuser = main.unshare(["CLONE_NEWUSER"]);
  const set_owner = main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  return {
    unshare_newuser,
    set_owner,
    worker_uid: main.status(worker).Uid,
    same_user_ns: main.ns(worker).user === main.ns(main.tid).user,
  };
}
