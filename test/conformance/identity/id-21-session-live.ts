import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  const setsid = main.setsid();
  const { pgrp, session } = main.stat(worker);
  main.prctl("PR_SET_NAME", "renamed");
  return {
    setsid,
    worker_pgrp_is_owner: pgrp === main.pid,
    worker_session_is_owner: session === main.pid,
    setsid_again: main.setsid(),
    owner_comm: main.stat(main.tid).comm,
    worker_comm_kept: main.stat(worker).comm === `vhost-${main.pid}`,
    write_comm: main.setComm(worker, "a name that is too long"),
    worker_comm: main.stat(worker).comm,
  };
}
