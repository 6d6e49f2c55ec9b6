import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const seen: Seen = {};
  for (const kind of ["vsock", "net", "scsi"]) {
    const fd = main.open(`/dev/vhost-${kind}`);
    main.ioctl(fd, "VHOST_SET_OWNER");
    for (const [name, ioctl] of [
      ["base0", "VHOST_GET_VRING_BASE"],
      ["busyloop", "VHOST_GET_VRING_BUSYLOOP_TIMEOUT"],
    ] as const) {
      const arg = { index: 0, num: -1 };
      main.ioctl(fd, ioctl, arg);
      seen[`${kind}_${name}`] = arg.num;
    }
  }
  return seen;
}
