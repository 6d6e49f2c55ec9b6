// What a discard does to a file.

import { statSync } from "node:fs";
import { expect, test } from "vitest";
import { blk, Kernel } from "#dist/index.js";
import { libc } from "#dist/linux/libc.js";
import { tempFiles } from "../helpers/temp-file.js";

const MIB = 1 << 20;
const makeFile = tempFiles();

function whatIsMissing(): string | undefined {
  try {
    libc();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

const missing = whatIsMissing();

test.skipIf(missing)(
  `a discard gives the file's space back, and no more than asked ${missing ?? ""}`,
  async () => {
    const file = makeFile(new Uint8Array(2 * MIB).fill(0xaa));
    const before = statSync(file).blocks;
    await using process = new Kernel().spawn();
    const drive = await (await process.open(blk({ file }))).driver();
    await drive.discard(0, MIB);
    expect(before - statSync(file).blocks).toBe(MIB / 512);
    expect(statSync(file).size).toBe(2 * MIB);
    expect(await drive.read(0, 4096)).toEqual(new Uint8Array(4096));
    expect(await drive.read(MIB, 4096)).toEqual(new Uint8Array(4096).fill(0xaa));
  },
);
