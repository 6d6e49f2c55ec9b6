import type { Piece } from "#dist/driver/queue.js";
import type { SharedMemory } from "#dist/memory/shared-memory.js";
import * as blk from "#dist/spec/virtio-blk.js";
import { Graveyard, GuardedBuffer } from "./buffers.js";
import { DISK_ID } from "./device.js";
import type { DirtyPages } from "./dirty-log.js";
import { fillSector, type Journal, ModelDisk } from "./disk.js";
import { must, type World } from "./world.js";

const SECTOR_BYTES = blk.VIRTIO_BLK_SECTOR_BYTES;
/** Sectors of the disk, and of one request at most. */
const SECTORS = 96;
const REQUEST_SECTORS_MAX = 4;

const NAMES = new Map([
  [blk.VIRTIO_BLK_T_IN, "IN"],
  [blk.VIRTIO_BLK_T_OUT, "OUT"],
  [blk.VIRTIO_BLK_T_FLUSH, "FLUSH"],
  [blk.VIRTIO_BLK_T_GET_ID, "GET_ID"],
  [blk.VIRTIO_BLK_T_DISCARD, "DISCARD"],
  [blk.VIRTIO_BLK_T_WRITE_ZEROES, "WRITE_ZEROES"],
]);
const TYPES = [...NAMES.keys()];
/** Of so many requests one is of any type; the others read or write. */
const ANY_TYPE_ONCE_IN = 3;

/** A request that the driver has sent, or will. */
export interface SimRequest {
  readonly id: number;
  readonly name: string;
  readonly queue: number;
  readonly type: number;
  /** Sectors that nobody else writes meanwhile; none: count 0. */
  readonly sector: number;
  readonly count: number;
  /** What its sectors have after it, if it writes. */
  readonly stamp: number;
  readonly memory: GuardedBuffer;
  readonly writableBytes: number;
  /** When it was made, in simulated milliseconds. */
  readonly at: number;
  /** Operations of the disk on its behalf: done, and failed by a fault. */
  done: number;
  failed: number;
}

/** All requests, and what must come of them: the oracle. */
export class Requests implements Journal {
  readonly disk = new ModelDisk(SECTORS);
  readonly #shared: SharedMemory;
  readonly #world: World;
  readonly #dirty: DirtyPages | undefined;
  readonly #graveyard = new Graveyard();
  readonly #open = new Set<SimRequest>();
  /** By queue: the last that came back, where they must come in order. */
  #lastIds: number[] = [];
  #flushFailures = 0;
  /** Counts. */
  sent = 0;
  completed = 0;
  lost = 0;
  failed = 0;
  /** They come back in the order in which they were sent, queue by queue. */
  isInOrder = false;

  constructor(shared: SharedMemory, world: World, dirty: DirtyPages | undefined) {
    this.#shared = shared;
    this.#world = world;
    this.#dirty = dirty;
  }

  /** Requests that are neither completed nor lost. */
  get openCount(): number {
    return this.#open.size;
  }

  ended(offset: number, isDone: boolean): void {
    if (!isDone && offset < 0) this.#flushFailures++;
    const sector = offset / SECTOR_BYTES;
    for (const request of this.#open) {
      if (offset < 0 || sector < request.sector || sector >= request.sector + request.count)
        continue;
      if (isDone) request.done++;
      else request.failed++;
    }
  }

  /** Whether no open request has one of these sectors. */
  #isFree(sector: number, count: number): boolean {
    for (const other of this.#open) {
      if (sector < other.sector + other.count && other.sector < sector + count) return false;
    }
    return true;
  }

  /** A new one for a ring of `num` entries. */
  make(queue: number, num: number): SimRequest {
    const { random, now } = this.#world;
    let type = random.pick([blk.VIRTIO_BLK_T_IN, blk.VIRTIO_BLK_T_OUT]);
    if (random.once(ANY_TYPE_ONCE_IN)) type = random.pick(TYPES);
    let count = random.between(1, REQUEST_SECTORS_MAX);
    const sector = random.below(SECTORS - count + 1);
    const hasNone = type === blk.VIRTIO_BLK_T_FLUSH || type === blk.VIRTIO_BLK_T_GET_ID;
    if (!hasNone && !this.#isFree(sector, count)) type = blk.VIRTIO_BLK_T_GET_ID;
    if (hasNone || type === blk.VIRTIO_BLK_T_GET_ID) count = 0;
    const id = ++this.sent;
    const stamp = type === blk.VIRTIO_BLK_T_OUT ? id : 0;
    const sent = this.#contents(type, sector, count, stamp);
    const writableBytes = 1 + this.#readBytes(type, count);
    const memory = new GuardedBuffer(this.#shared, random, sent, writableBytes, Math.min(num, 8));
    const name = `request ${id}, ${NAMES.get(type)} ${count > 0 ? `${sector}+${count}` : ""}`;
    const fresh = { id, name, queue, type, sector, count, stamp, memory, writableBytes };
    const request = { ...fresh, at: now, done: 0, failed: 0 };
    this.#open.add(request);
    return request;
  }

  /** What the device gets to read: header, and data. */
  #contents(type: number, sector: number, count: number, stamp: number): Uint8Array {
    const isRange = type === blk.VIRTIO_BLK_T_DISCARD || type === blk.VIRTIO_BLK_T_WRITE_ZEROES;
    const isOut = type === blk.VIRTIO_BLK_T_OUT;
    const data = isOut ? count * SECTOR_BYTES : isRange ? blk.VIRTIO_BLK_SEGMENT_BYTES : 0;
    const bytes = new Uint8Array(blk.VIRTIO_BLK_HEADER_BYTES + data);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, type, true);
    if (!isRange) view.setUint32(8, sector, true);
    else {
      view.setUint32(blk.VIRTIO_BLK_HEADER_BYTES, sector, true);
      view.setUint32(blk.VIRTIO_BLK_HEADER_BYTES + 8, count, true);
    }
    for (let i = 0; isOut && i < count; i++) {
      const at = blk.VIRTIO_BLK_HEADER_BYTES + i * SECTOR_BYTES;
      fillSector(bytes.subarray(at, at + SECTOR_BYTES), sector + i, stamp);
    }
    return bytes;
  }

  #readBytes(type: number, count: number): number {
    if (type === blk.VIRTIO_BLK_T_IN) return count * SECTOR_BYTES;
    return type === blk.VIRTIO_BLK_T_GET_ID ? blk.VIRTIO_BLK_ID_BYTES : 0;
  }

  /** It came back, with so many bytes; the device has told that in the piece `used`. */
  complete(request: SimRequest, usedBytes: number, used: Piece): void {
    const { name, memory, writableBytes, queue, id } = request;
    must(this.#open.delete(request), `${name}: completed twice, or after its end`);
    if (this.isInOrder) {
      must((this.#lastIds[queue] ?? 0) < id, `${name}: completed out of order`);
      this.#lastIds[queue] = id;
    }
    must(usedBytes === writableBytes, `${name}: ${usedBytes} bytes of ${writableBytes}`);
    const answer = memory.received(name);
    this.#dirty?.check(memory.writable, request.at, name);
    if (this.#world.config.logsRings) this.#dirty?.checkRing(used, request.at, name);
    const status = answer[writableBytes - 1];
    if (status === blk.VIRTIO_BLK_S_OK) this.#checkDone(request, answer);
    else this.#checkFailed(request, status);
    this.completed++;
    this.#graveyard.add(memory.buffer, name);
  }

  #checkDone(request: SimRequest, answer: Uint8Array): void {
    const { name, type, sector, count } = request;
    must(count === 0 || request.done > 0, `${name}: is said to be done, and was not`);
    if (type === blk.VIRTIO_BLK_T_GET_ID) {
      const text = Buffer.from(answer.subarray(0, -1)).toString("latin1").replace(/\0+$/, "");
      must(text === DISK_ID, `${name}: the disk says that it is ${text}`);
    }
    for (let i = 0; i < count; i++) {
      if (type === blk.VIRTIO_BLK_T_IN) {
        const data = answer.subarray(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES);
        this.disk.check(sector + i, data, name);
      } else {
        this.disk.set(sector + i, request.stamp, true);
        this.disk.checkDisk(sector + i, name);
      }
    }
  }

  #checkFailed(request: SimRequest, status: number | undefined): void {
    const { name, type } = request;
    must(status === blk.VIRTIO_BLK_S_IOERR, `${name}: status ${status}`);
    const isFlush = type === blk.VIRTIO_BLK_T_FLUSH;
    const hadFault = isFlush ? this.#flushFailures > 0 : request.failed > 0;
    must(hadFault, `${name}: failed, without a fault`);
    this.failed++;
    this.#mayBeDone(request);
  }

  /** It was done, or a part of it, or nothing: the disk shows what. */
  #mayBeDone({ type, sector, count, stamp, name }: SimRequest): void {
    if (type === blk.VIRTIO_BLK_T_IN) return;
    for (let i = 0; i < count; i++) {
      this.disk.set(sector + i, stamp, false);
      this.disk.checkDisk(sector + i, name);
    }
  }

  /** The device was reset: what is open is lost, and must not be done any more. */
  abandonAll(): void {
    for (const request of this.#open) {
      request.memory.received(request.name);
      this.#mayBeDone(request);
      this.lost++;
      this.#graveyard.add(request.memory.buffer, request.name);
    }
    this.#open.clear();
    this.#lastIds = [];
  }

  /** At the end: nothing is open, the disk is as it must be. */
  checkEnd(): void {
    must(this.#open.size === 0, `${this.#open.size} requests are open`);
    must(this.completed + this.lost === this.sent, "requests that nobody knows of");
    for (let sector = 0; sector < SECTORS; sector++) this.disk.checkDisk(sector, "at the end");
    this.#graveyard.empty();
  }
}
