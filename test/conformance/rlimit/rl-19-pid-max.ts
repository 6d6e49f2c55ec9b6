import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  const fd = main.open("/dev/vhost-vsock");
  const set = main.setPidMax(301);
  let made = 0;
  while (attempt(() => main.clone(["CLONE_VM"])) === "OK") made++;
  return {
    set,
    some_made: made > 200,
    fork: attempt(() => main.fork()),
    set_owner: main.ioctl(fd, "VHOST_SET_OWNER"),
    sqpoll: attempt(() => main.ioUringSetup({ sqpoll: true })),
    set_300: main.setPidMax(300),
    raise: main.setPidMax(400),
    set_owner_then: main.ioctl(fd, "VHOST_SET_OWNER"),
  };
}
