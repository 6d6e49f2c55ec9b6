import { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import { blk } from "#dist/devices/blk.js";
import { lockImage } from "#dist/linux/image-lock.js";
import { libc } from "#dist/linux/libc.js";
import { describeVhostUser, Served, useDisk } from "../helpers/vhost-user.js";

const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, "disk.img");
beforeEach(() => {
  writeFileSync(path, "");
  truncateSync(path, 1 << 20);
});

/** Whether each of them gets the image, one opened after the other; all hold it. */
function tried(...isReadOnly: boolean[]): boolean[] {
  const fds = isReadOnly.map(() => openSync(path, "r+"));
  const got = isReadOnly.map((readOnly, i) => lockImage(fds[i] as number, readOnly));
  for (const fd of fds) closeSync(fd);
  return got;
}

describeVhostUser("image locks", () => {
  test("one may write, or many may read; whoever closes it lets go", () => {
    expect(tried(false, false)).toEqual([true, false]);
    expect(tried(false, true)).toEqual([true, false]);
    expect(tried(true, false)).toEqual([true, false]);
    expect(tried(true, true, true)).toEqual([true, true, true]);
  });

  test("one of those bytes locked by another, alone: refused", () => {
    const fd = openSync(path, "r+");
    const other = openSync(path, "r+");
    const lock = new DataView(new ArrayBuffer(32)); // struct flock: F_WRLCK of byte 100
    lock.setInt16(0, 1, true);
    lock.setBigInt64(8, 100n, true);
    lock.setBigInt64(16, 1n, true);
    const F_OFD_SETLK = 37;
    expect(libc().fcntlLock(other, F_OFD_SETLK, lock)).toBe(0);
    expect(lockImage(fd, true)).toBe(false);
    closeSync(other);
    expect(lockImage(fd, true)).toBe(true);
    closeSync(fd);
  });

  test("an image that another program has is refused by name, until that lets go", async () => {
    await using served = await Served.start({ device: blk({ file: path }) });
    const fd = openSync(path, "r+");
    expect(lockImage(fd, false)).toBe(true);
    await expect(useDisk(served.path)).rejects.toThrow();
    const { error } = await served.next("rejected");
    expect(error.code).toBe("EBUSY");
    expect(error.message).toContain(`${path} is in use by another program`);
    closeSync(fd);
    await useDisk(served.path);
  });

  test("a second server of the same image is refused while the first serves", async () => {
    await using first = await Served.start({ device: blk({ file: path }) });
    using front = await first.ready();
    const fd = openSync(path, "r+");
    expect(lockImage(fd, false)).toBe(false);
    closeSync(fd);
    front.close();
    await first.idle();
    expect(tried(false)).toEqual([true]);
  });
});
