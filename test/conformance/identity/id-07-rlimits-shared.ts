import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main, attempt }: Scene): Seen {
  main.setrlimit("NOFILE", 100, 200);
  main.setrlimit("NPROC", 777, 888);
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  const { NOFILE: worker_nofile, NPROC: worker_nproc } = main.limits(worker);
  main.setrlimit("NOFILE", 50, 60);
  const second = main.open("/dev/vhost-vsock");
  main.ioctl(second, "VHOST_SET_FORK_FROM_OWNER", 0);
  main.ioctl(second, "VHOST_SET_OWNER");
  const kthread = main.processes().find((pid) => main.stat(pid).comm === `vhost-${main.tid}`);
  return {
    worker_nofile,
    worker_nproc,
    worker_nofile_after_owner_change: main.limits(worker).NOFILE,
    prlimit_on_worker_tid_read: attempt(() => main.prlimit(worker, "NPROC")),
    prlimit_cur: main.prlimit(worker, "NPROC").cur,
    kthread_worker_nofile: kthread && main.limits(kthread).NOFILE,
  };
}
