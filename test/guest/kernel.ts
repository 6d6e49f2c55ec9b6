// The kernel as QEMU starts it soonest.

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";

/**
 * Unpacks the kernel in a bzImage and writes it to `target`, since under emulation the kernel
 * takes seconds to unpack itself. Gives the path to start: `target`, or the bzImage when it is
 * packed in another way than zstd or when there is no `zstd` program.
 */
export function unpackKernel(bzImage: string, target: string): string {
  const file = readFileSync(bzImage);
  const start = ((file[0x1f1] || 4) + 1) * 512 + file.readUInt32LE(0x248);
  // The payload ends with its unpacked size, in 4 bytes.
  const payload = file.subarray(start, start + file.readUInt32LE(0x24c) - 4);
  if (file.toString("latin1", 0x202, 0x206) !== "HdrS" || payload.length < 4) return bzImage;
  if (payload.readUInt32LE(0) !== 0xfd2fb528) return bzImage;
  try {
    const options = { input: payload, maxBuffer: 1 << 28, stdio: ["pipe", "pipe", "ignore"] };
    writeFileSync(target, execFileSync("zstd", ["-dc"], options as object));
    return target;
  } catch {
    return bzImage;
  }
}
