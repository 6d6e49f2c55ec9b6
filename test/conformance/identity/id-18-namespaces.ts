import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  const seen: Seen = {};
  for (const [name, link] of Object.entries(main.ns(worker))) {
    seen[`same_${name}`] = link === main.ns(main.tid)[name];
  }
  const unshare = main.unshare(["CLONE_NEWNET", "CLONE_NEWUTS"]);
  const second = main.open("/dev/vhost-vsock");
  return {
    ...seen,
    unshare_net_uts: unshare,
    worker_net_equals_owner_after_owner_unshare: main.ns(worker).net === main.ns(main.tid).net,
    set_owner_after_unshare_net: main.ioctl(second, "VHOST_SET_OWNER"),
  };
}
