import { errno } from "../spec/errno.js";
import { hasFeature } from "../spec/features.js";
import {
  VIRTIO_BLK_CONFIG_WRITEBACK,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_HEADER_BYTES,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_SECTOR_BYTES,
  VIRTIO_BLK_SEGMENT_BYTES,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from "../spec/virtio-blk.js";
import { VIRTIO_ID_BLOCK } from "../spec/virtio-config.js";
import type { Chain, ChainSide } from "../vhost/chain.js";
import type { VirtioDevice } from "../vhost/device.js";
import type { Virtqueue } from "../vhost/virtqueue.js";
import type { BlkBackend } from "./blk-backend.js";
import {
  BLK_DISCARD_SECTORS_MAX,
  BLK_SEGMENT_BYTES_MAX,
  BLK_SEGMENTS_MAX,
  BLK_WRITE_ZEROES_SECTORS_MAX,
  blkConfig,
  blkFeatures,
  capacitySectors,
} from "./blk-config.js";

/** Data segments of one request, however large the queue is: a bound on the work of one. */
const SEGMENTS_MAX = 254;
/** Descriptors that header and status take beside the data. */
const OVERHEAD_SEGMENTS = 2;
const MAX_SECTOR = Number.MAX_SAFE_INTEGER / VIRTIO_BLK_SECTOR_BYTES;

/**
 * A block device over a back-end. Each request is done before the next begins; what the guest got
 * wrong becomes the request's status. virtio 1.3, 5.2 Block Device.
 */
export class BlkDevice implements VirtioDevice {
  readonly deviceId = VIRTIO_ID_BLOCK;
  readonly features: bigint;
  readonly queueCount: number;
  readonly queueSizeMax: number;
  readonly #backend: BlkBackend;
  readonly #id: Uint8Array;
  readonly #sectors: number;
  readonly #segments = new Uint8Array(BLK_SEGMENTS_MAX * VIRTIO_BLK_SEGMENT_BYTES);
  readonly #segmentsView = new DataView(this.#segments.buffer);
  readonly #segMax: number;
  /** The most that one request moves. */
  readonly #bytesMax: number;
  #accepted: bigint | undefined;
  #isWriteback = true;
  /** The error number of what the back-end failed at in this request, or 0. */
  #errno = 0;

  /** `id`: at most 20 bytes of text for GET_ID. */
  constructor(backend: BlkBackend, id: string, queueCount: number, queueSizeMax: number) {
    this.#backend = backend;
    this.#sectors = capacitySectors(backend.sizeBytes);
    this.features = blkFeatures(backend.isReadOnly, queueCount);
    this.queueCount = queueCount;
    this.queueSizeMax = queueSizeMax;
    this.#segMax = Math.min(SEGMENTS_MAX, Math.max(1, queueSizeMax - OVERHEAD_SEGMENTS));
    this.#bytesMax = this.#segMax * BLK_SEGMENT_BYTES_MAX;
    this.#id = new Uint8Array(VIRTIO_BLK_ID_BYTES);
    new TextEncoder().encodeInto(id, this.#id);
  }

  readConfig(): Uint8Array {
    return blkConfig({
      capacitySectors: this.#sectors,
      segMax: this.#segMax,
      queueCount: this.queueCount,
      isWriteback: this.#isWriteback,
    });
  }

  /** Only `writeback` may be written, and only when that was negotiated: see 5.2.5.2. */
  writeConfig(offset: number, bytes: Uint8Array): void {
    const value = bytes[VIRTIO_BLK_CONFIG_WRITEBACK - offset];
    if (value === undefined || !hasFeature(this.#accepted ?? 0n, VIRTIO_BLK_F_CONFIG_WCE)) return;
    this.#isWriteback = value !== 0;
    if (!this.#isWriteback) this.#backend.flush();
  }

  /** Without FLUSH, every write is made stable at once, until the driver switches: see 5.2.5.2. */
  start(features: bigint): void {
    if (features === this.#accepted) return; // stopped and started again: the mode stays
    this.#accepted = features;
    this.#isWriteback = hasFeature(features, VIRTIO_BLK_F_FLUSH);
  }

  reset(): void {
    this.#accepted = undefined;
    this.#isWriteback = true;
  }

  close(): void {
    this.#backend.close();
  }

  handleKick(vq: Virtqueue): void {
    vq.drain((chain) => this.#request(chain, vq));
  }

  /**
   * One request: header, data, status, however they are cut into descriptors. Returns the bytes
   * written. virtio 1.3, 5.2.6 Device Operation.
   */
  #request(chain: Chain, vq: Virtqueue): number {
    const { readable, writable } = chain;
    const statusAt = writable.bytes - 1;
    if (statusAt < 0 || readable.bytes < VIRTIO_BLK_HEADER_BYTES) return vq.badRequest();
    if (statusAt > this.#bytesMax) {
      writable.writeLastByte(VIRTIO_BLK_S_IOERR);
      return 0; // zeroing so much would be work without a bound: see below
    }
    const type = readable.u32(0);
    this.#errno = 0;
    const status = this.#perform(type, readable, writable, statusAt);
    if (this.#errno !== 0) vq.failed(this.#errno);
    // A length vouches for every byte before it (2.7.8.2 The Virtqueue Used Ring), and the status
    // is the last one: so what no data was read to is zeroed.
    const isFilled = type === VIRTIO_BLK_T_IN || type === VIRTIO_BLK_T_GET_ID;
    if (status !== VIRTIO_BLK_S_OK || !isFilled) writable.fill(0, statusAt, 0);
    writable.writeLastByte(status);
    return statusAt + 1;
  }

  /** Does what the header asks for, with `length` writable bytes; returns the status. */
  #perform(type: number, readable: ChainSide, writable: ChainSide, length: number): number {
    const sector = readable.u32(8) + readable.u32(12) * 2 ** 32;
    switch (type) {
      case VIRTIO_BLK_T_IN:
        return this.#read(sector, writable, length);
      case VIRTIO_BLK_T_OUT:
        return this.#write(sector, readable);
      case VIRTIO_BLK_T_FLUSH:
        return this.#toStatus(this.#backend.flush());
      case VIRTIO_BLK_T_GET_ID:
        return this.#getId(writable, length);
      case VIRTIO_BLK_T_DISCARD:
      case VIRTIO_BLK_T_WRITE_ZEROES:
        return this.#discardOrZero(type, readable);
      default:
        return VIRTIO_BLK_S_UNSUPP;
    }
  }

  /** A back-end's answer as a status: how much it did of what it had to, or a negative errno. */
  #toStatus(result: number, needed = 0): number {
    if (result >= needed) return VIRTIO_BLK_S_OK;
    this.#errno = result < 0 ? -result : errno.EIO;
    return VIRTIO_BLK_S_IOERR;
  }

  #getId(writable: ChainSide, length: number): number {
    if (length < VIRTIO_BLK_ID_BYTES) return VIRTIO_BLK_S_IOERR;
    writable.write(0, this.#id);
    writable.fill(VIRTIO_BLK_ID_BYTES, length - VIRTIO_BLK_ID_BYTES, 0);
    return VIRTIO_BLK_S_OK;
  }

  #isWithin(sector: number, lengthBytes: number): boolean {
    const sectors = lengthBytes / VIRTIO_BLK_SECTOR_BYTES;
    if (lengthBytes > this.#bytesMax) return false;
    return Number.isInteger(sectors) && sector <= MAX_SECTOR && sector + sectors <= this.#sectors;
  }

  #read(sector: number, writable: ChainSide, length: number): number {
    if (!this.#isWithin(sector, length)) return VIRTIO_BLK_S_IOERR;
    if (length === 0) return VIRTIO_BLK_S_OK;
    const offset = sector * VIRTIO_BLK_SECTOR_BYTES;
    const expected = Math.min(length, this.#backend.sizeBytes - offset);
    const done =
      writable.length(0) >= length
        ? this.#backend.read(offset, writable.address(0), length)
        : this.#backend.readv(offset, writable.views(0, length));
    const status = this.#toStatus(done, expected); // failed, or the file has shrunk
    if (done >= expected && done < length) writable.fill(done, length - done, 0);
    return status;
  }

  #write(sector: number, readable: ChainSide): number {
    const length = readable.bytes - VIRTIO_BLK_HEADER_BYTES;
    if (this.#backend.isReadOnly || !this.#isWithin(sector, length)) return VIRTIO_BLK_S_IOERR;
    if (length === 0) return VIRTIO_BLK_S_OK;
    const offset = sector * VIRTIO_BLK_SECTOR_BYTES;
    const isPlain = readable.count === 2 && readable.length(0) === VIRTIO_BLK_HEADER_BYTES;
    const done = isPlain
      ? this.#backend.write(offset, readable.address(1), length)
      : this.#backend.writev(offset, readable.views(VIRTIO_BLK_HEADER_BYTES, length));
    const status = this.#toStatus(done, length);
    return status === VIRTIO_BLK_S_OK ? this.#settle() : status;
  }

  /** In write-through mode, what was written is stable before the request is done. */
  #settle(): number {
    return this.#isWriteback ? VIRTIO_BLK_S_OK : this.#toStatus(this.#backend.flush());
  }

  /** Discard and write zeroes: all segments are checked before the first is done. See 5.2.6.2. */
  #discardOrZero(type: number, readable: ChainSide): number {
    const length = readable.bytes - VIRTIO_BLK_HEADER_BYTES;
    const count = length / VIRTIO_BLK_SEGMENT_BYTES;
    if (this.#backend.isReadOnly || !Number.isInteger(count)) return VIRTIO_BLK_S_IOERR;
    if (count < 1 || count > BLK_SEGMENTS_MAX) return VIRTIO_BLK_S_IOERR;
    readable.read(VIRTIO_BLK_HEADER_BYTES, this.#segments.subarray(0, length));
    for (let i = 0; i < count; i++) {
      const status = this.#checkSegment(type, i);
      if (status !== VIRTIO_BLK_S_OK) return status;
    }
    for (let i = 0; i < count; i++) {
      const { offset, lengthBytes } = this.#segment(i);
      const result =
        type === VIRTIO_BLK_T_DISCARD
          ? this.#backend.discard(offset, lengthBytes)
          : this.#backend.writeZeroes(offset, lengthBytes);
      const status = this.#toStatus(result);
      if (status !== VIRTIO_BLK_S_OK) return status;
    }
    return type === VIRTIO_BLK_T_DISCARD ? VIRTIO_BLK_S_OK : this.#settle();
  }

  #segment(index: number): { offset: number; lengthBytes: number; flags: number } {
    const view = this.#segmentsView;
    const at = index * VIRTIO_BLK_SEGMENT_BYTES;
    const sector = view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
    return {
      offset: sector * VIRTIO_BLK_SECTOR_BYTES,
      lengthBytes: view.getUint32(at + 8, true) * VIRTIO_BLK_SECTOR_BYTES,
      flags: view.getUint32(at + 12, true),
    };
  }

  #checkSegment(type: number, index: number): number {
    const { offset, lengthBytes, flags } = this.#segment(index);
    const isDiscard = type === VIRTIO_BLK_T_DISCARD;
    if (flags & ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) return VIRTIO_BLK_S_UNSUPP;
    if (isDiscard && flags !== 0) return VIRTIO_BLK_S_UNSUPP;
    const max = isDiscard ? BLK_DISCARD_SECTORS_MAX : BLK_WRITE_ZEROES_SECTORS_MAX;
    const isTooLong = lengthBytes > max * VIRTIO_BLK_SECTOR_BYTES;
    const end = offset + lengthBytes;
    return isTooLong || end > this.#sectors * VIRTIO_BLK_SECTOR_BYTES
      ? VIRTIO_BLK_S_IOERR
      : VIRTIO_BLK_S_OK;
  }
}
