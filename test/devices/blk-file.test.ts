// A disk in a file: what is in the file is what was written, and a file that misbehaves is an I/O
// error, never more.

import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { blk, Kernel } from "#dist/index.js";
import {
  VIRTIO_BLK_S_IOERR as IOERR,
  VIRTIO_BLK_S_OK as OK,
  VIRTIO_BLK_CONFIG_SEG_MAX,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "#dist/spec/virtio-blk.js";
import { blkHeader, blkPieces, blkRequest, pattern } from "../helpers/blk-raw.js";
import { openBlk, rejected } from "../helpers/devices.js";
import { IO_MODES, RawGuest } from "../helpers/raw-guest.js";
import { tempFiles } from "../helpers/temp-file.js";

const makeFile = tempFiles();
const NOBODY = 65534;

describe.each(IO_MODES)("$run, $ring ring, io $io", ({ io, ...mode }) => {
  test("requests of any cut go to their place in the file", async () => {
    const file = makeFile(8192);
    await using guest = await RawGuest.open(blk({ file, io }), mode);
    const { ring } = guest;
    await blkRequest(ring, VIRTIO_BLK_T_OUT, 2, pattern(1024, 1));
    const [a, b] = [pattern(700, 2), pattern(324, 3)];
    await blkPieces(ring, [blkHeader(VIRTIO_BLK_T_OUT, 7), a, b, 1]);
    const expected = Buffer.alloc(8192);
    expected.set(pattern(1024, 1), 1024);
    expected.set(a, 3584);
    expected.set(b, 3584 + 700);
    expect(readFileSync(file).equals(expected)).toBe(true);
    const cut = await blkPieces(ring, [blkHeader(VIRTIO_BLK_T_IN, 0), 1000, 5, 7187, 1]);
    expect(cut.status).toBe(OK);
    expect(Buffer.from(cut.data).equals(expected)).toBe(true);
  });

  test("a size that is no multiple of 512: read-only, and zeroes after its end", async () => {
    const bytes = pattern(1000);
    const file = makeFile(bytes);
    await using guest = await RawGuest.open(blk({ file, readOnly: true, io }), mode);
    const { ring } = guest;
    const whole = Buffer.concat([bytes, Buffer.alloc(24)]);
    const answer = await blkRequest(ring, VIRTIO_BLK_T_IN, 0, undefined, 1024);
    expect(answer).toMatchObject({ status: OK, length: 1025, data: whole });
    const pieces = [blkHeader(VIRTIO_BLK_T_IN, 1), 480, 30, 3];
    expect(await blkPieces(ring, pieces)).toMatchObject({ status: OK, data: whole.subarray(512) });
    expect((await blkRequest(ring, VIRTIO_BLK_T_IN, 1, undefined, 1024)).status).toBe(IOERR);
    expect(await guest.dev.readConfig()).toMatchObject({ 0: 2 });
  });

  test("a file that shrinks under the disk: IOERR past its end, the rest lives", async () => {
    const file = makeFile(pattern(4096));
    await using guest = await RawGuest.open(blk({ file, io }), mode);
    const { ring } = guest;
    truncateSync(file, 1024 + 100);
    for (const [sector, bytes] of [
      [0, 4096],
      [2, 512],
      [7, 512],
    ] as const) {
      const answer = await blkRequest(ring, VIRTIO_BLK_T_IN, sector, undefined, bytes);
      expect(answer.status).toBe(IOERR);
      expect(answer.data.subarray(0, answer.length).some((byte) => byte === 0xaa)).toBe(false);
    }
    const { status, data } = await blkRequest(ring, VIRTIO_BLK_T_IN, 0, undefined, 1024);
    expect({ status, data }).toEqual({
      status: OK,
      data: Buffer.from(pattern(4096).slice(0, 1024)),
    });
    expect((await blkRequest(ring, VIRTIO_BLK_T_OUT, 7, pattern(512))).status).toBe(OK);
    expect(statSync(file).size).toBe(4096);
  });

  test.each([64, 4096])("5.2.4: seg_max segments are taken, queue size %i", async (num) => {
    const spec = blk({ file: makeFile(2 << 20), queueSize: num, io });
    await using guest = await RawGuest.open(spec, { ...mode, num, memoryBytes: 8 << 20 });
    const config = Buffer.from(await guest.dev.readConfig());
    const segments = config.readUInt32LE(VIRTIO_BLK_CONFIG_SEG_MAX);
    expect(segments).toBeGreaterThanOrEqual(62);
    const parts = Array.from({ length: segments }, (_, i) => pattern(512, i));
    const write = await blkPieces(guest.ring, [blkHeader(VIRTIO_BLK_T_OUT, 3), ...parts, 1]);
    expect(write.status).toBe(OK);
    const room = parts.map(({ length }) => length);
    const read = await blkPieces(guest.ring, [blkHeader(VIRTIO_BLK_T_IN, 3), ...room, 1]);
    expect([read.status, read.length]).toEqual([OK, segments * 512 + 1]);
    expect(Buffer.concat(parts).equals(read.data)).toBe(true);
  });
});

test.each(["inline", "uring"] as const)("write zeroes over more than one piece, %s", async (io) => {
  const file = makeFile(pattern(2 << 20));
  await using disk = await openBlk({ file, io });
  await disk.drive.writeZeroes(512, (2 << 20) - 1024);
  const bytes = readFileSync(file);
  expect(bytes.subarray(512, -512).every((byte) => byte === 0)).toBe(true);
  expect(bytes.subarray(0, 512).equals(pattern(512))).toBe(true);
  expect(bytes.subarray(-512).equals(pattern(2 << 20).subarray(-512))).toBe(true);
});

test("the disk stays on its file when another takes its name, or when it is deleted", async () => {
  const file = makeFile(pattern(1024, 1));
  await using disk = await openBlk({ file });
  renameSync(makeFile(pattern(1024, 2)), file);
  expect(await disk.drive.read(0, 1024)).toEqual(new Uint8Array(pattern(1024, 1)));
  await disk.drive.write(0, pattern(512, 3));
  expect(readFileSync(file).equals(pattern(1024, 2))).toBe(true);
  rmSync(file);
  expect(await disk.drive.read(0, 512)).toEqual(new Uint8Array(pattern(512, 3)));
});

describe("files that make no disk", () => {
  const open = (file: string, readOnly = false) =>
    new Kernel().spawn().open(blk({ file, readOnly }), { run: "inline" });

  test("missing: ENOENT, with the path", async () => {
    const error = await rejected("ENOENT", open("/nowhere/disk.img"));
    expect(error.message).toContain("/nowhere/disk.img");
  });

  test("a folder, or a device: EINVAL", async () => {
    await rejected("EINVAL", open(dirname(makeFile(512))));
    await rejected("EINVAL", open("/dev/null"));
  });

  test("empty, or no whole sectors while writable: EINVAL that says what helps", async () => {
    for (const bytes of [0, 1000]) {
      const { message } = await rejected("EINVAL", open(makeFile(bytes)));
      expect(message).toContain("truncate -s");
    }
    await rejected("EINVAL", open(makeFile(0), true));
  });

  test("without the right to read or write it: EACCES", async () => {
    const file = makeFile(512);
    await (await open(file)).close();
    const isRoot = process.getuid?.() === 0; // who may do anything
    if (isRoot) for (const path of [dirname(file), file]) chownSync(path, NOBODY, NOBODY);
    if (isRoot) process.seteuid?.(NOBODY);
    try {
      chmodSync(file, 0o400);
      await rejected("EACCES", open(file));
      await (await open(file, true)).close();
      chmodSync(file, 0o000);
      await rejected("EACCES", open(file, true));
    } finally {
      if (isRoot) process.seteuid?.(0);
    }
  });
});

describe("one file, two disks", () => {
  const kernel = new Kernel();
  const process = kernel.spawn();
  const open = (file: string, readOnly = false) =>
    process.open(blk({ file, readOnly }), { run: "inline" });

  test("writable twice is EBUSY, by any name of the file, and free after close", async () => {
    const file = makeFile(512);
    const [hard, soft] = [`${file}.hard`, `${file}.soft`];
    linkSync(file, hard);
    symlinkSync(file, soft);
    const disk = await open(file);
    for (const name of [file, hard, soft, join(dirname(file), ".", file.split("/").pop() ?? "")]) {
      const error = await rejected("EBUSY", open(name));
      expect(error.message).toContain(name);
      await rejected("EBUSY", open(name, true));
    }
    await rejected("EBUSY", new Kernel().spawn().open(blk({ file }), { run: "inline" }));
    await disk.close();
    await (await open(soft)).close();
  });

  test("read-only any number of times; a writer waits for the last of them", async () => {
    const file = makeFile(512);
    const readers = [await open(file, true), await open(file, true), await open(file, true)];
    for (const reader of readers) {
      await rejected("EBUSY", open(file));
      await reader.close();
    }
    await (await open(file)).close();
  });

  test("opened twice at the same time: one gets it", async () => {
    const file = makeFile(512);
    const results = await Promise.allSettled([open(file), open(file)]);
    expect(results.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    for (const result of results) if (result.status === "fulfilled") await result.value.close();
    await (await open(file)).close();
  });

  test("an open that fails in the worker gives the file back", async () => {
    const file = makeFile(512);
    const spec = blk({ file });
    const vanishing = () => {
      const claims = spec.claims?.() ?? [];
      rmSync(file);
      return claims;
    };
    const opening = process.open({ ...spec, claims: vanishing }, { run: "inline" });
    await rejected("ENOENT", opening);
    mkdirSync(file);
    await rejected("EINVAL", open(file));
    rmSync(file, { recursive: true });
    writeFileSync(file, new Uint8Array(512));
    await (await open(file)).close();
  });
});
