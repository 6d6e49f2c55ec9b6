import type { BlkBackend } from "#dist/devices/blk-backend.js";
import { MemoryBackend } from "#dist/devices/blk-memory.js";
import { errno } from "#dist/spec/errno.js";
import { VIRTIO_BLK_SECTOR_BYTES as SECTOR_BYTES } from "#dist/spec/virtio-blk.js";
import { type Actor, must, type World } from "./world.js";

/** So slow is a slow operation at most, in milliseconds. */
const SLOW_MS = 3;

/** What the requests get to know of operations on their sectors. */
export interface Journal {
  /** An operation at a byte offset was done, or failed by a fault. Flushes: at offset -1. */
  ended(offset: number, isDone: boolean): void;
}

/** A disk in memory whose operations may fail, take long, and be where the worker dies. */
export class FaultyBackend implements BlkBackend {
  readonly isReadOnly = false;
  readonly sizeBytes: number;
  readonly #inner: MemoryBackend;
  readonly #world: World;
  readonly #journal: Journal;
  /** The worker: whose steps these are. */
  actor!: Actor;
  /** Operations that failed. */
  failures = 0;

  constructor(disk: SharedArrayBuffer, memory: WebAssembly.Memory, world: World, journal: Journal) {
    this.sizeBytes = disk.byteLength;
    this.#inner = new MemoryBackend(disk, false, memory);
    this.#world = world;
    this.#journal = journal;
  }

  /** `move` does so many bytes of it; a fault may do a part first. */
  #operate(
    offset: number,
    bytes: number,
    move: (bytes: number) => number,
    canBeShort = true,
  ): number {
    const world = this.#world;
    world.between(this.actor);
    if (world.fault("ioSlow")) world.pass(SLOW_MS * 1000);
    if (!world.fault("ioFails")) {
      const done = move(bytes);
      this.#journal.ended(offset, true);
      world.between(this.actor);
      return done;
    }
    const part = world.random.below(Math.max(1, bytes / SECTOR_BYTES)) * SECTOR_BYTES;
    if (part > 0) move(part);
    world.say(`the disk fails at ${offset}`);
    this.failures++;
    this.#journal.ended(offset, false);
    return canBeShort && world.random.once(2) ? part : -errno.EIO;
  }

  read(offset: number, address: number, length: number): number {
    return this.#operate(offset, length, (bytes) => this.#inner.read(offset, address, bytes));
  }

  readv(offset: number, views: Uint8Array<ArrayBufferLike>[]): number {
    const move = (bytes: number) => this.#inner.readv(offset, cut(views, bytes));
    return this.#operate(offset, total(views), move);
  }

  write(offset: number, address: number, length: number): number {
    return this.#operate(offset, length, (bytes) => this.#inner.write(offset, address, bytes));
  }

  writev(offset: number, views: Uint8Array<ArrayBufferLike>[]): number {
    const move = (bytes: number) => this.#inner.writev(offset, cut(views, bytes));
    return this.#operate(offset, total(views), move);
  }

  flush(): number {
    return this.#operate(-1, 0, () => this.#inner.flush(), false);
  }

  writeZeroes(offset: number, length: number): number {
    const move = (bytes: number) => this.#inner.writeZeroes(offset, bytes);
    return this.#operate(offset, length, move, false);
  }

  discard(offset: number, length: number): number {
    return this.writeZeroes(offset, length);
  }

  close(): void {}
}

const total = (views: Uint8Array[]) => views.reduce((sum, { length }) => sum + length, 0);

function cut(views: Uint8Array<ArrayBufferLike>[], bytes: number): Uint8Array<ArrayBufferLike>[] {
  const parts: Uint8Array<ArrayBufferLike>[] = [];
  let left = bytes;
  for (const view of views) {
    if (left <= 0) break;
    parts.push(view.subarray(0, left));
    left -= view.length;
  }
  return parts;
}

/** Fills a sector with what belongs to a stamp; stamp 0: zeroes. */
export function fillSector(bytes: Uint8Array, sector: number, stamp: number): void {
  const words = new DataView(bytes.buffer, bytes.byteOffset, SECTOR_BYTES);
  const first = Math.imul(stamp, 0x9e3779b1) ^ Math.imul(sector, 0x85ebca6b);
  for (let i = 0; i < SECTOR_BYTES; i += 4) {
    words.setUint32(i, stamp === 0 ? 0 : (first + i) >>> 0, true);
  }
}

/** What may be on the disk: of each sector, the stamps of which it has one. */
export class ModelDisk {
  readonly sectors: number;
  readonly bytes: SharedArrayBuffer;
  readonly #stamps: number[][];
  readonly #expected = new Uint8Array(SECTOR_BYTES);

  constructor(sectors: number) {
    this.sectors = sectors;
    this.bytes = new SharedArrayBuffer(sectors * SECTOR_BYTES);
    this.#stamps = Array.from({ length: sectors }, () => [0]);
  }

  /** From now on the sector has `stamp`; or, if it is not certain, may have it. */
  set(sector: number, stamp: number, isCertain: boolean): void {
    if (isCertain) this.#stamps[sector] = [stamp];
    else this.#stamps[sector]?.push(stamp);
  }

  /** `bytes` were read of a sector: they must be what it may have, and what it has is known now. */
  check(sector: number, bytes: Uint8Array, where: string): void {
    const allowed = this.#stamps[sector] as number[];
    for (const stamp of allowed) {
      fillSector(this.#expected, sector, stamp);
      if (Buffer.compare(this.#expected, bytes) !== 0) continue;
      this.#stamps[sector] = [stamp];
      return;
    }
    const begins = Buffer.from(bytes.subarray(0, 8)).toString("hex");
    must(false, `${where}: sector ${sector} begins with ${begins}, not by stamps ${allowed}`);
  }

  /** Looks at what is on the disk itself. */
  checkDisk(sector: number, where: string): void {
    this.check(sector, new Uint8Array(this.bytes, sector * SECTOR_BYTES, SECTOR_BYTES), where);
  }
}
