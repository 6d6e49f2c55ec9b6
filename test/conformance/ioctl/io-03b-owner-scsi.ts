import { everyIoctl } from "../every-ioctl.js";
import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-scsi");
  main.ioctl(fd, "VHOST_SET_OWNER");
  return everyIoctl(main, fd, "RESET_OWNER_null");
}
