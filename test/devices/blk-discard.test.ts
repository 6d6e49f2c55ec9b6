// What a discard does to a file.

import { statSync } from "node:fs";
import { expect } from "vitest";
import { blk, Kernel } from "#dist/index.js";
import { missingLibc, testWith } from "../helpers/skip.js";
import { tempFiles } from "../helpers/temp-file.js";

const MIB = 1 << 20;
const makeFile = tempFiles();

testWith(
  missingLibc(),
  "a discard gives the file's space back, and no more than asked",
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
