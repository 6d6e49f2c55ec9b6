import * as fs from "node:fs";
import { lockImage } from "../linux/image-lock.js";
import { punchHole } from "../linux/punch-hole.js";
import { errno, errnoOf, VhostError, whyOf } from "../spec/errno.js";
import { VIRTIO_BLK_SECTOR_BYTES } from "../spec/virtio-blk.js";
import type { BlkBackend } from "./blk-backend.js";
import type { BlkShared } from "./blk-base.js";

const QCOW2_MAGIC = "QFI\xfb";
/** One write of zeroes; longer ranges take several. */
const ZEROES = new Uint8Array(1 << 18);

/** A failed system call as a negative errno; Node has numbers for all that a file can fail with. */
function negative(error: unknown): number {
  const number = (error as NodeJS.ErrnoException).errno;
  return typeof number === "number" && number < 0 ? number : -errno.EIO;
}

/** Facts of an image, known before a device is made of it. */
export interface ImageFacts {
  sizeBytes: number;
  /** The file itself, however it is named: device and inode. */
  key: string;
}

/** What a file is, if it can be a disk. Throws EINVAL, saying how to mend it. */
function factsOf(path: string, isReadOnly: boolean, stat: fs.Stats): ImageFacts {
  const { size } = stat;
  if (!stat.isFile()) throw new VhostError("EINVAL", `${path} is not a regular file`, { path });
  if (size === 0) {
    const how = `give it a size: truncate -s 64M ${path}`;
    throw new VhostError("EINVAL", `${path} is empty; ${how}`, { path });
  }
  if (!isReadOnly && size % VIRTIO_BLK_SECTOR_BYTES !== 0) {
    const how = `open it read-only or extend it: truncate -s %512 ${path}`;
    throw new VhostError("EINVAL", `${path} has ${size} bytes, no multiple of 512; ${how}`, {
      path,
      sizeBytes: size,
    });
  }
  return { sizeBytes: size, key: `file:${stat.dev}:${stat.ino}` };
}

/**
 * Looks at the file of a disk. Throws ENOENT, EACCES …, EINVAL for what is no regular file or is
 * empty, and for a writable one that is no whole number of sectors.
 */
export function checkImage(path: string, isReadOnly: boolean): ImageFacts {
  let stat: fs.Stats;
  try {
    stat = fs.statSync(path);
    fs.accessSync(path, isReadOnly ? fs.constants.R_OK : fs.constants.R_OK | fs.constants.W_OK);
  } catch (error) {
    throw imageError(path, isReadOnly, error);
  }
  if (stat.isFile()) refuseQcow2(path);
  return factsOf(path, isReadOnly, stat);
}

/**
 * Throws EINVAL for an image in QEMU's own format: served as it is, a guest would see the format
 * and not the disk. What can't be read is left to whoever opens it.
 */
function refuseQcow2(path: string): void {
  const start = Buffer.alloc(QCOW2_MAGIC.length);
  try {
    const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    fs.readSync(fd, start, 0, start.length, 0);
    fs.closeSync(fd);
  } catch {
    return;
  }
  if (start.toString("latin1") !== QCOW2_MAGIC) return;
  const how = `qemu-img convert -O raw ${path} disk.img`;
  throw new VhostError("EINVAL", `${path} is a qcow2 image, only raw ones are served; ${how}`);
}

function imageError(path: string, isReadOnly: boolean, error: unknown): VhostError {
  const how = isReadOnly ? "read" : "read and written";
  const message = `${path} can't be ${how}: ${whyOf(error)}`;
  return new VhostError(errnoOf(error), message, { path }, error);
}

/** Opens without waiting, should the name be a FIFO's by now. */
function openImage(path: string, isReadOnly: boolean): number {
  const { O_RDONLY, O_RDWR, O_NONBLOCK } = fs.constants;
  try {
    return fs.openSync(path, (isReadOnly ? O_RDONLY : O_RDWR) | O_NONBLOCK);
  } catch (error) {
    throw imageError(path, isReadOnly, error);
  }
}

/** An image that is open. */
export interface OpenImage {
  /** The caller's to close. */
  fd: number;
  sizeBytes: number;
}

/**
 * Opens the file of a disk, and locks it as QEMU does. Throws what `checkImage` throws, and EBUSY
 * when another program has it locked, or when it is none of `claims` any more: another file took
 * its name since they were taken. `isFurther`: an instance in another worker has it locked already;
 * the lock holds as long as one of them has it open.
 */
export function openLocked(
  path: string,
  isReadOnly: boolean,
  claims: readonly string[],
  isFurther = false,
): OpenImage {
  const fd = openImage(path, isReadOnly);
  try {
    const { sizeBytes, key } = factsOf(path, isReadOnly, fs.fstatSync(fd));
    if (!claims.includes(key)) {
      throw new VhostError("EBUSY", `${path} was replaced while it was opened; open it again`);
    }
    if (!lockImage(fd, isReadOnly, isFurther)) {
      const who = "another program: a virtual machine, or a server like this one";
      throw new VhostError("EBUSY", `${path} is in use by ${who}`, { path });
    }
    return { fd, sizeBytes };
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

/** A disk in a file: `readv` and `writev` go straight between the file and the owner's memory. */
export class FileBackend implements BlkBackend {
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  readonly #fd: number;
  readonly #memory: Uint8Array<ArrayBufferLike>;

  /** `shared`: in a further worker, the first's. Throws what `openLocked` throws. */
  constructor(
    path: string,
    isReadOnly: boolean,
    memory: WebAssembly.Memory,
    claims: readonly string[],
    shared?: BlkShared,
  ) {
    this.isReadOnly = isReadOnly;
    this.#memory = new Uint8Array(memory.buffer);
    const { fd, sizeBytes } = openLocked(path, isReadOnly, claims, shared !== undefined);
    this.#fd = fd;
    this.sizeBytes = shared?.sizeBytes ?? sizeBytes;
  }

  read(offset: number, address: number, length: number): number {
    try {
      return fs.readSync(this.#fd, this.#memory, address, length, offset);
    } catch (error) {
      return negative(error);
    }
  }

  readv(offset: number, views: Uint8Array<ArrayBufferLike>[]): number {
    try {
      return fs.readvSync(this.#fd, views, offset);
    } catch (error) {
      return negative(error);
    }
  }

  write(offset: number, address: number, length: number): number {
    try {
      let done = 0;
      while (done < length) {
        // what is left after a short write is tried, too: that says why it was short
        const left = length - done;
        const wrote = fs.writeSync(this.#fd, this.#memory, address + done, left, offset + done);
        if (wrote === 0) break;
        done += wrote;
      }
      return done;
    } catch (error) {
      return negative(error);
    }
  }

  writev(offset: number, views: Uint8Array<ArrayBufferLike>[]): number {
    try {
      let done = fs.writevSync(this.#fd, views, offset);
      let end = 0;
      for (const { byteLength, byteOffset } of views) {
        const start = end;
        end += byteLength;
        if (done >= end) continue; // all but after a short write
        const wrote = this.write(offset + done, byteOffset + done - start, end - done);
        if (wrote < 0) return wrote;
        done += wrote;
        if (done < end) break;
      }
      return done;
    } catch (error) {
      return negative(error);
    }
  }

  flush(): number {
    try {
      fs.fdatasyncSync(this.#fd);
      return 0;
    } catch (error) {
      return negative(error);
    }
  }

  writeZeroes(offset: number, length: number): number {
    try {
      for (let done = 0; done < length; ) {
        const bytes = Math.min(ZEROES.length, length - done);
        done += fs.writeSync(this.#fd, ZEROES, 0, bytes, offset + done);
      }
      return 0;
    } catch (error) {
      return negative(error);
    }
  }

  discard(offset: number, length: number): number {
    punchHole(this.#fd, offset, length);
    return 0;
  }

  close(): void {
    fs.closeSync(this.#fd);
  }
}
