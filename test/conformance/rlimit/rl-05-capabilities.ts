import type { Scene, Seen } from "../machine/index.js";

const CAPS = {
  none: [],
  CAP_SYS_RESOURCE: [24],
  CAP_SYS_ADMIN: [21],
  CAP_NET_ADMIN: [12],
  CAP_SETUID: [7],
};

export function run({ main, attempt }: Scene): Seen {
  const seen: Seen = {};
  for (const [at, [name, caps]] of Object.entries(CAPS).entries()) {
    const child = main.fork();
    child.prctl("PR_SET_KEEPCAPS", 1);
    child.setrlimit("NPROC", 1, 1);
    child.setuid(20010 + at);
    child.capset(caps);
    const fd = child.open("/dev/vhost-vsock");
    seen[`${name}_set_owner`] = child.ioctl(fd, "VHOST_SET_OWNER");
    child.close(fd);
    seen[`${name}_pthread`] = attempt(() => child.pthreadCreate());
    child.exitGroup();
    main.wait(child.pid);
  }
  return seen;
}
