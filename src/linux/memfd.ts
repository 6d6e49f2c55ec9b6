import { ftruncateSync } from "node:fs";
import { check, closeFd, libc } from "./libc.js";
import { sealAgainstShrinking } from "./mapping.js";

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;

/**
 * A file in memory alone, of `bytes` zeroes, which never gets shorter: its descriptor, the caller's
 * to close. `name` is what /proc shows. Throws EMFILE, ENOMEM. Linux: memfd_create(2).
 */
export function makeMemfd(name: string, bytes: number): number {
  const made = libc().memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  const fd = check(made, "memory to share could not be made");
  try {
    ftruncateSync(fd, bytes);
    sealAgainstShrinking(fd);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}
