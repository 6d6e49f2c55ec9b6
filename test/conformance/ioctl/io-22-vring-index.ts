import type { Scene, Seen } from "../machine/index.js";

const QUEUES = { vsock: 2, net: 2, scsi: 130 };

export function run({ main }: Scene): Seen {
  const seen: Seen = {};
  const { rx: ring } = main.mapVsockRings();
  for (const [kind, queues] of Object.entries(QUEUES)) {
    const fd = main.open(`/dev/vhost-${kind}`);
    main.ioctl(fd, "VHOST_SET_OWNER");
    const vring = (name: string, index: number, more: object = {}) =>
      main.ioctl(fd, name, { index, ...more });
    Object.assign(seen, {
      [`${kind}_num_last`]: vring("VHOST_SET_VRING_NUM", queues - 1, { num: 8 }),
      [`${kind}_num_oor`]: vring("VHOST_SET_VRING_NUM", queues, { num: 8 }),
      [`${kind}_num_oor_bad_value`]: vring("VHOST_SET_VRING_NUM", queues, { num: 3 }),
      [`${kind}_base_oor`]: vring("VHOST_SET_VRING_BASE", queues, { num: 0 }),
      [`${kind}_get_base_oor`]: vring("VHOST_GET_VRING_BASE", queues),
      [`${kind}_addr_oor`]: vring("VHOST_SET_VRING_ADDR", queues, { ring }),
      [`${kind}_kick_oor`]: vring("VHOST_SET_VRING_KICK", queues, { ring }),
      [`${kind}_call_oor`]: vring("VHOST_SET_VRING_CALL", queues, { ring }),
      [`${kind}_kick_ffffffff`]: vring("VHOST_SET_VRING_KICK", 0xffffffff, { ring }),
      [`${kind}_unknown_ioctl_idx0`]: vring("0xaf7f", 0),
      [`${kind}_unknown_ioctl_oor`]: vring("0xaf7f", queues),
      [`${kind}_unknown_ioctl_null`]: main.ioctl(fd, "0xaf7f"),
    });
  }
  return seen;
}
