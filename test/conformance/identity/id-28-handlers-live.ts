import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  const before = main.status(worker);
  main.sigaction("SIGUSR1", () => {});
  main.sigaction("SIGHUP", "SIG_IGN");
  main.sigprocmask("SIG_BLOCK", ["SIGUSR2"]);
  const after = main.status(worker);
  return {
    SigCgt_before: before.SigCgt,
    SigIgn_before: before.SigIgn,
    SigCgt_after: after.SigCgt,
    SigIgn_after: after.SigIgn,
    SigBlk_after: after.SigBlk,
    owner_SigBlk: main.status(main.tid).SigBlk,
  };
}
