import { createHash } from "node:crypto";
import { closeSync, createReadStream, ftruncateSync, openSync, truncateSync } from "node:fs";
import { capacitySectors } from "../devices/blk-config.js";
import type { BlkDriver } from "../driver/blk.js";
import type { DmaBuffer } from "../driver/dma.js";
import { VIRTIO_BLK_SECTOR_BYTES } from "../spec/virtio-blk.js";

/** Bytes of one request. */
const REQUEST_BYTES = 32 << 10;

/** Called with the bytes that were done since the last call. */
export type OnBytes = (bytes: number) => void;

/** What a pass over a disk came to. */
export interface Run {
  bytes: number;
  requests: number;
  milliseconds: number;
  /** Lower-case hexadecimal; empty where nothing was hashed. */
  sha256: string;
}

/** SHA-256 of a file, read by Node alone. */
export async function hashFile(path: string, onBytes: OnBytes): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    hash.update(chunk);
    onBytes(chunk.length);
  }
  return hash.digest("hex");
}

/** A file of zeroes that a writable disk can be: whole sectors. */
export function makeEmpty(path: string, sizeBytes: number): void {
  const fd = openSync(path, "wx");
  ftruncateSync(fd, capacitySectors(sizeBytes) * VIRTIO_BLK_SECTOR_BYTES);
  closeSync(fd);
}

/** Cuts a file to its true size. */
export function trim(path: string, sizeBytes: number): void {
  truncateSync(path, sizeBytes);
}

/** What is done with a part of the disk: at once when it was read, or in the order of the disk. */
interface Uses {
  /** As soon as it is there; its buffer is not read into again before this settles. */
  atOnce?: (buffer: DmaBuffer, offset: number, length: number) => Promise<void>;
  /** In order, one at a time. */
  inOrder: (bytes: Uint8Array<ArrayBufferLike>, offset: number) => void;
}

/** Reads a disk from its first byte to its last with `depth` requests in flight. */
async function sweep(drive: BlkDriver, depth: number, uses: Uses): Promise<Omit<Run, "sha256">> {
  const began = performance.now();
  const bytes = drive.sizeBytes;
  const requests = Math.ceil(bytes / REQUEST_BYTES);
  const buffers = Array.from({ length: Math.min(depth, requests) }, () =>
    drive.alloc(REQUEST_BYTES),
  );
  const begin = async (index: number): Promise<Uint8Array<ArrayBufferLike>> => {
    const buffer = buffers[index % buffers.length] as DmaBuffer;
    const offset = index * REQUEST_BYTES;
    const length = Math.min(REQUEST_BYTES, bytes - offset);
    await drive.readInto(offset, buffer, length);
    await uses.atOnce?.(buffer, offset, length);
    return buffer.bytes.subarray(0, length);
  };
  const begun = buffers.map((_, index) => begin(index));
  try {
    for (let index = 0; index < requests; index++) {
      const slot = index % buffers.length;
      uses.inOrder((await begun[slot]) as Uint8Array<ArrayBufferLike>, index * REQUEST_BYTES);
      if (index + buffers.length < requests) begun[slot] = begin(index + buffers.length);
    }
  } finally {
    await Promise.allSettled(begun); // the device may write to a buffer until then
    for (const buffer of buffers) buffer.free();
  }
  return { bytes, requests, milliseconds: performance.now() - began };
}

/** Reads a whole disk, and hashes its first `sizeBytes` bytes: the last sector may be padded. */
export async function hashDisk(
  drive: BlkDriver,
  sizeBytes: number,
  depth: number,
  onBytes: OnBytes,
): Promise<Run> {
  const hash = createHash("sha256");
  const run = await sweep(drive, depth, {
    inOrder: (bytes, offset) => {
      hash.update(bytes.subarray(0, Math.min(bytes.length, sizeBytes - offset)));
      onBytes(bytes.length);
    },
  });
  return { ...run, sha256: hash.digest("hex") };
}

/** Copies one disk to another of the same owner, buffer to buffer, and makes the copy stable. */
export async function copyDisk(
  from: BlkDriver,
  to: BlkDriver,
  depth: number,
  onBytes: OnBytes,
): Promise<Run> {
  const began = performance.now();
  const run = await sweep(from, depth, {
    atOnce: (buffer, offset, length) => to.writeFrom(offset, buffer, length),
    inOrder: (bytes) => onBytes(bytes.length),
  });
  await to.flush();
  return { ...run, milliseconds: performance.now() - began, sha256: "" };
}
