import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  main.ioUringSubmitAsync(main.ioUringSetup(), "openat-fifo");
  const wrk = threadNamed(main, "iou-wrk-") ?? 0;
  const child = main.fork();
  const seen: Seen = {};
  for (const type of ["KCMP_VM", "KCMP_FILES", "KCMP_FS", "KCMP_SIGHAND"] as const) {
    for (const [name, tid] of Object.entries({ worker, wrk, child: child.tid })) {
      seen[`${name}_${type}`] = main.kcmp(main.tid, tid, type) === 0;
    }
  }
  return seen;
}
