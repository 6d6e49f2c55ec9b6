import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const net = main.open("/dev/vhost-net");
  const seen: Seen = { net_before_owner: main.ioctl(net, "VHOST_RESET_OWNER") };
  main.ioctl(net, "VHOST_SET_OWNER");
  main.ioctl(net, "VHOST_SET_VRING_BASE", { index: 0, num: 7 });
  seen.threads_owned = main.tasks().length;
  seen.net_reset = main.ioctl(net, "VHOST_RESET_OWNER");
  seen.threads_reset = main.tasks().length;
  seen.net_set_num_after_reset = main.ioctl(net, "VHOST_SET_VRING_NUM", { index: 0, num: 8 });
  seen.net_set_owner_again = main.ioctl(net, "VHOST_SET_OWNER");
  seen.threads_again = main.tasks().length;
  const base = { index: 0, num: -1 };
  main.ioctl(net, "VHOST_GET_VRING_BASE", base);
  seen.base_after = base.num;
  seen.net_reset_by_other_process = main.fork().ioctl(net, "VHOST_RESET_OWNER");
  const vsock = main.open("/dev/vhost-vsock");
  const scsi = main.open("/dev/vhost-scsi");
  main.ioctl(vsock, "VHOST_SET_OWNER");
  main.ioctl(scsi, "VHOST_SET_OWNER");
  seen.vsock_reset_null = main.ioctl(vsock, "VHOST_RESET_OWNER");
  seen.vsock_reset_valid_ptr_idx0 = main.ioctl(vsock, "VHOST_RESET_OWNER", { index: 0 });
  seen.vsock_reset_valid_ptr_idx9 = main.ioctl(vsock, "VHOST_RESET_OWNER", { index: 9 });
  seen.scsi_reset_valid_ptr_idx0 = main.ioctl(scsi, "VHOST_RESET_OWNER", { index: 0 });
  return seen;
}
