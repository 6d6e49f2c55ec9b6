import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  main.prctl("PR_SET_NO_NEW_PRIVS", 1);
  main.seccomp();
  const [own, workers] = [main.status(main.tid), main.status(worker)];
  return {
    owner_NoNewPrivs: own.NoNewPrivs,
    worker_NoNewPrivs: workers.NoNewPrivs,
    owner_Seccomp: own.Seccomp,
    worker_Seccomp: workers.Seccomp,
    seccomp_TSYNC: main.seccomp({ tsync: true }),
    worker_Seccomp_after_tsync: main.status(worker).Seccomp,
  };
}
