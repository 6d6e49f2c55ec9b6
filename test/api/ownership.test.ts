// Who holds what, and until when: memory that a device was given, a file that a disk was opened on.

import { readdirSync, renameSync, symlinkSync, unlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { blk, Kernel } from "#dist/index.js";
import { custom, rejected, until } from "../helpers/devices.js";
import { tempFiles } from "../helpers/temp-file.js";

const file = tempFiles();

// A close once rejected what was in flight before it reset the device. Whoever waited gave the
// memory back, another device's buffer took its place, and the first device wrote into that.
test("a request that a device holds is not given up before the device is reset", async () => {
  const words = new Int32Array(new SharedArrayBuffer(8));
  await using vmm = new Kernel().spawn();
  await using device = await vmm.open(custom("holds", { words: words.buffer }));
  const driver = await device.driver();
  let isSettled = false;
  const settled = () => {
    isSettled = true; // answered, or ENODEV: both are true when the answer comes during the close
  };
  const request = driver.request(0, new Uint8Array(4), 4096).then(settled, settled);
  await until(() => Atomics.load(words, 0) === 1);
  const closing = driver.close();
  await rejected("ENODEV", driver.request(0, new Uint8Array(4), 4));
  for (let turn = 0; turn < 20; turn++) await nextTurn();
  expect(isSettled).toBe(false);
  Atomics.store(words, 1, 1);
  Atomics.notify(words, 1);
  await closing;
  await request;
});

test("a freed buffer, another process's and no buffer at all are refused", async () => {
  const kernel = new Kernel();
  await using mine = kernel.spawn();
  await using theirs = kernel.spawn();
  const open = async (process: typeof mine) =>
    (await process.open(blk({ memoryBytes: 1 << 20 }))).driver();
  const [drive, other] = [await open(mine), await open(theirs)];
  const freed = drive.alloc(4096);
  freed.free();
  await rejected("EINVAL", drive.readInto(0, freed));
  await rejected("EINVAL", drive.readInto(0, other.alloc(4096)));
  const forged = { address: 65536, bytes: new Uint8Array(512) } as unknown as typeof freed;
  await rejected("EINVAL", drive.readInto(0, forged));
});

test("a buffer that is freed while a request has it goes back when that has ended", async () => {
  await using vmm = new Kernel().spawn();
  await using disk = await vmm.open(blk({ memoryBytes: 1 << 20 }), { run: "inline" });
  const drive = await disk.driver();
  const { guest } = disk.dev.sharedMemory;
  const before = guest.freeBytes;
  const buffer = drive.alloc(4096);
  const reading = drive.readInto(0, buffer);
  buffer.free();
  expect(guest.freeBytes).toBe(before - 4096);
  while (disk.runPending());
  await reading;
  expect(guest.freeBytes).toBe(before);
});

// The device was made after the open had been given up: its file stayed open, and claimed.
test("an inline open that is aborted while the device is made keeps no file", async () => {
  const path = file(4096);
  const openFiles = () => readdirSync("/proc/self/fd").length;
  await using vmm = new Kernel().spawn();
  await (await vmm.open(blk({ file: path }), { run: "inline" })).close();
  const before = openFiles();
  for (let i = 0; i < 20; i++) {
    const abort = new AbortController();
    const opening = vmm.open(blk({ file: path }), { run: "inline", signal: abort.signal });
    abort.abort();
    await expect(opening).rejects.toBe(abort.signal.reason);
    for (let turn = 0; turn < 5; turn++) await nextTurn();
  }
  await expect.poll(openFiles).toBe(before);
  await (await vmm.open(blk({ file: path }), { run: "inline" })).close();
});

// The claim was on the file that the name meant at first, the disk on the one that it meant later.
test("a file that takes the name of another while it is opened is refused", async () => {
  const [first, second] = [file(4096), file(4096)];
  const link = join(dirname(first), "link");
  symlinkSync(first, link);
  await using vmm = new Kernel().spawn();
  symlinkSync(second, `${link}.new`);
  const spec = blk({ file: link });
  const claims = () => {
    const taken = spec.claims?.() ?? [];
    renameSync(`${link}.new`, link);
    return taken;
  };
  await rejected("EBUSY", vmm.open({ ...spec, claims }));
  unlinkSync(link);
  for (const path of [first, second]) await (await vmm.open(blk({ file: path }))).close();
});
