import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  const size = (tid: number) => Number.parseInt(main.status(tid).VmSize ?? "", 10);
  const before = size(worker);
  const child = main.fork();
  main.mmap(1 << 20);
  return {
    same_before: before > 0,
    grown_kb: size(worker) - before,
    same_as_owner: size(worker) === size(main.tid),
    child_grown_kb: size(child.tid) - before,
  };
}
