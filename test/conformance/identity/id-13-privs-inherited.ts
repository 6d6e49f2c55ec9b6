import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

const CAP_NET_ADMIN = 12;
const CAP_SYS_ADMIN = 21;

export function run({ main }: Scene): Seen {
  main.setgroups([11, 22, 33]);
  main.prctl("PR_SET_NO_NEW_PRIVS", 1);
  const seccomp = main.seccomp();
  main.capset([CAP_NET_ADMIN, CAP_SYS_ADMIN]);
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  // What changes later is not the worker's.
  main.capset([]);
  const status = main.status(worker);
  return {
    seccomp,
    worker_NoNewPrivs: status.NoNewPrivs,
    worker_Seccomp: status.Seccomp,
    worker_Seccomp_filters: status.Seccomp_filters,
    worker_Groups: status.Groups,
    worker_CapEff: status.CapEff,
    worker_CapPrm: status.CapPrm,
  };
}
