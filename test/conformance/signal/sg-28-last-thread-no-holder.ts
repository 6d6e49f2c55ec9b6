import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main, attempt }: Scene): Seen {
  const owner = main.fork();
  const fd = owner.open("/dev/vhost-vsock");
  owner.ioctl(fd, "VHOST_SET_OWNER");
  const rings = owner.mapVsockRings();
  owner.startVsock(fd, 42, rings);
  const worker = threadNamed(owner, "vhost-") ?? 0;
  owner.exit(3);
  const wait = main.wait(owner.pid);
  const gone = attempt(() => main.stat(worker)) === "ENOENT";
  const fresh = main.open("/dev/vhost-vsock");
  main.ioctl(fresh, "VHOST_SET_OWNER");
  return { wait, gone, same_cid: main.ioctl(fresh, "VHOST_VSOCK_SET_GUEST_CID", 42) };
}
