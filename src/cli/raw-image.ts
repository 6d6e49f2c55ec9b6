import { closeSync, openSync, readSync } from "node:fs";
import { VhostError } from "../spec/errno.js";

const QCOW2_MAGIC = "QFI\xfb";

/**
 * Throws EINVAL for an image in QEMU's own format: served as it is, a guest would see the format
 * and not the disk. What can't be read is left to whoever opens it.
 */
export function refuseQcow2(path: string): void {
  const start = Buffer.alloc(QCOW2_MAGIC.length);
  try {
    const fd = openSync(path, "r");
    readSync(fd, start, 0, start.length, 0);
    closeSync(fd);
  } catch {
    return;
  }
  if (start.toString("latin1") !== QCOW2_MAGIC) return;
  const how = `qemu-img convert -O raw ${path} disk.img`;
  throw new VhostError("EINVAL", `${path} is a qcow2 image, only raw ones are served; ${how}`);
}
