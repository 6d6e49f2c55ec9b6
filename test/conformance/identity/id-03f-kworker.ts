import type { Scene, Seen } from "../machine/index.js";
import { prepare, taskFields } from "../task-fields.js";

export function run(scene: Scene): Seen {
  const main = prepare(scene);
  const tid = main.processes().find((pid) => main.stat(pid).comm.startsWith("kworker/")) ?? 0;
  const { PPid, flags_without_randomize_superpriv, flags_decoded, ...rest } = taskFields(main, tid);
  return {
    PPid,
    flags_without_randomize_superpriv,
    flags_decoded,
    "has_mm(VmSize line)": rest["has_mm(VmSize line)"],
    sched_setaffinity: main.schedSetaffinity(tid, [0, 1]),
    move_to_cgroup: main.write("/sys/fs/cgroup/cgroup.procs", tid),
  };
}
