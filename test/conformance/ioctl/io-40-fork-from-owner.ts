import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const seen: Seen = {};
  for (const kind of ["vsock", "net", "scsi"]) {
    const fd = main.open(`/dev/vhost-${kind}`);
    const set = (mode?: number) => main.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", mode);
    const mode = { value: -1 };
    const get = () => main.ioctl(fd, "VHOST_GET_FORK_FROM_OWNER", mode);
    const value = () => (get() === "OK" ? mode.value : undefined);
    Object.assign(seen, {
      [`${kind}_get`]: get(),
      [`${kind}_default`]: mode.value,
      [`${kind}_set0`]: set(0),
      [`${kind}_after0`]: value(),
      [`${kind}_set2`]: set(2),
      [`${kind}_set255`]: set(255),
      [`${kind}_badptr`]: set(),
      [`${kind}_set_owner`]: main.ioctl(fd, "VHOST_SET_OWNER"),
      [`${kind}_set1_owned`]: set(1),
      [`${kind}_set7_owned`]: set(7),
      [`${kind}_get_owned`]: get(),
      [`${kind}_value_owned`]: value(),
    });
    if (kind !== "net") continue;
    main.ioctl(fd, "VHOST_RESET_OWNER");
    seen.net_value_after_reset_owner = value();
  }
  return seen;
}
