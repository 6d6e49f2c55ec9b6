import { everyIoctl } from "../every-ioctl.js";
import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const seen = everyIoctl(main, main.open("/dev/vhost-scsi"), "RESET_OWNER_null");
  return { ...seen, threads: main.tasks().length };
}
