import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const child = main.fork();
  child.prctl("PR_SET_KEEPCAPS", 1);
  child.setuid(20095);
  child.capset([21]);
  child.prctl("PR_SET_NO_NEW_PRIVS", 1);
  const before = child.status(child.tid);
  child.exec("other");
  const after = child.status(child.tid);
  const root = main.fork();
  root.exec("rooty");
  return {
    CapPrm_before: before.CapPrm,
    CapPrm_after: after.CapPrm,
    NoNewPrivs_after: after.NoNewPrivs,
    Uid_after: after.Uid,
    comm_after: child.stat(child.tid).comm,
    FORKNOEXEC_after: child.stat(child.tid).flagNames.includes("FORKNOEXEC"),
    root_CapPrm_after: root.status(root.tid).CapPrm,
  };
}
