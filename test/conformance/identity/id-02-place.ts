import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main, parent }: Scene): Seen {
  const set_owner = main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  const stat = main.stat(worker);
  return {
    set_owner,
    ppid_is_parent: stat.ppid === parent.pid,
    Tgid_is_owner: main.status(worker).Tgid === `${main.pid}`,
    in_task_folder: main.tasks().includes(worker),
    in_proc_readdir: main.processes().includes(worker),
    reads_as_proc_tid: main.status(worker).Pid === `${worker}`,
    exit_signal: stat.exit_signal,
    comm_is_vhost_pid: stat.comm === `vhost-${main.pid}`,
    same_pgrp: stat.pgrp === main.stat(main.tid).pgrp,
    same_session: stat.session === main.stat(main.tid).session,
    num_threads: stat.num_threads,
  };
}
