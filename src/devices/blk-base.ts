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
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from "../spec/virtio-blk.js";
import { VIRTIO_ID_BLOCK } from "../spec/virtio-config.js";
import type { Chain, ChainSide } from "../vhost/chain.js";
import type { Virtqueue } from "../vhost/virtqueue.js";
import {
  BLK_DISCARD_SECTORS_MAX,
  BLK_SEGMENT_BYTES_MAX,
  BLK_SEGMENTS_MAX,
  BLK_WRITE_ZEROES_SECTORS_MAX,
  blkConfig,
  blkFeatures,
  capacitySectors,
} from "./blk-config.js";
import { BlkMode } from "./blk-mode.js";

/** Data segments of one request, however large the queue is: a bound on the work of one. */
const SEGMENTS_MAX = 254;
/** Descriptors that header and status take beside the data. */
const OVERHEAD_SEGMENTS = 2;
const MAX_SECTOR = Number.MAX_SAFE_INTEGER / VIRTIO_BLK_SECTOR_BYTES;

/** A disk, as its device presents it. */
export interface BlkShape {
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  /** At most 20 bytes of text for GET_ID. */
  readonly id: string;
  readonly queueCount: number;
  readonly queueSizeMax: number;
}

/** What all instances of a disk have in common. */
export interface BlkShared {
  /** As the first one found it: the disk's size does not change while it is open. */
  readonly sizeBytes: number;
  readonly mode: SharedArrayBuffer;
}

/** One segment of a discard or write-zeroes request. */
export interface BlkSegment {
  offset: number;
  lengthBytes: number;
  flags: number;
}

/**
 * What all block devices have in common: the configuration, the mode of the cache, and what a
 * request may ask for. virtio 1.3, 5.2 Block Device.
 */
export abstract class BlkBase {
  readonly deviceId = VIRTIO_ID_BLOCK;
  readonly features: bigint;
  readonly queueCount: number;
  readonly queueSizeMax: number;
  readonly #shape: BlkShape;
  readonly #id: Uint8Array;
  readonly #sectors: number;
  readonly #segments = new Uint8Array(BLK_SEGMENTS_MAX * VIRTIO_BLK_SEGMENT_BYTES);
  readonly #segmentsView = new DataView(this.#segments.buffer);
  readonly #segMax: number;
  #accepted: bigint | undefined;
  readonly #mode: BlkMode;
  /** The most that one request moves. */
  protected readonly bytesMax: number;

  /** What further instances are made with. */
  readonly shared: BlkShared;

  /** `shared`: what the first instance has made, in a further one. */
  constructor(shape: BlkShape, shared?: BlkShared) {
    const { sizeBytes, isReadOnly, id, queueCount, queueSizeMax } = shape;
    this.#shape = shape;
    this.shared = shared ?? { sizeBytes, mode: BlkMode.make() };
    this.#mode = new BlkMode(this.shared.mode);
    this.#sectors = capacitySectors(sizeBytes);
    this.features = blkFeatures(isReadOnly, queueCount);
    this.queueCount = queueCount;
    this.queueSizeMax = queueSizeMax;
    this.#segMax = Math.min(SEGMENTS_MAX, Math.max(1, queueSizeMax - OVERHEAD_SEGMENTS));
    this.bytesMax = this.#segMax * BLK_SEGMENT_BYTES_MAX;
    this.#id = new Uint8Array(VIRTIO_BLK_ID_BYTES);
    new TextEncoder().encodeInto(id, this.#id);
  }

  /** False: what was written is made stable before the request is done. */
  protected get isWriteback(): boolean {
    return this.#mode.isWriteback;
  }

  /** Makes what was written stable, now. */
  protected abstract flushNow(): void;

  readConfig(): Uint8Array {
    return blkConfig({
      capacitySectors: this.#sectors,
      segMax: this.#segMax,
      queueCount: this.queueCount,
      isWriteback: this.isWriteback,
    });
  }

  /** Only `writeback` may be written, and only when that was negotiated: see 5.2.5.2. */
  writeConfig(offset: number, bytes: Uint8Array): void {
    const value = bytes[VIRTIO_BLK_CONFIG_WRITEBACK - offset];
    if (value === undefined || !hasFeature(this.#accepted ?? 0n, VIRTIO_BLK_F_CONFIG_WCE)) return;
    this.#mode.isWriteback = value !== 0;
    if (value === 0) this.flushNow();
  }

  /** Without FLUSH, every write is made stable at once, until the driver switches: see 5.2.5.2. */
  start(features: bigint): void {
    this.#accepted = features;
    this.#mode.start(hasFeature(features, VIRTIO_BLK_F_FLUSH));
  }

  reset(): void {
    this.#accepted = undefined;
    this.#mode.reset();
  }

  /**
   * The answer to a request that is not looked at: its header or its status does not fit, or there
   * is so much to write to that zeroing it would be work without a bound. `undefined`: it is.
   */
  protected answerUnfit({ readable, writable }: Chain, vq: Virtqueue): number | undefined {
    const statusAt = writable.bytes - 1;
    if (statusAt < 0 || readable.bytes < VIRTIO_BLK_HEADER_BYTES) return vq.badRequest();
    if (statusAt <= this.bytesMax) return undefined;
    writable.writeLastByte(VIRTIO_BLK_S_IOERR);
    return 0;
  }

  /**
   * Writes the status; returns the bytes written. A length vouches for every byte before it
   * (2.7.8.2 The Virtqueue Used Ring), and the status is the last one: so what no data was read to
   * is zeroed.
   */
  protected finish(writable: ChainSide, type: number, status: number): number {
    const statusAt = writable.bytes - 1;
    const isFilled = type === VIRTIO_BLK_T_IN || type === VIRTIO_BLK_T_GET_ID;
    if (status !== VIRTIO_BLK_S_OK || !isFilled) writable.fill(0, statusAt, 0);
    writable.writeLastByte(status);
    return statusAt + 1;
  }

  protected getId(writable: ChainSide, length: number): number {
    if (length < VIRTIO_BLK_ID_BYTES) return VIRTIO_BLK_S_IOERR;
    writable.write(0, this.#id);
    writable.fill(VIRTIO_BLK_ID_BYTES, length - VIRTIO_BLK_ID_BYTES, 0);
    return VIRTIO_BLK_S_OK;
  }

  /** Whether a request may move so many bytes from or to `sector`. */
  protected isWithin(sector: number, lengthBytes: number): boolean {
    const sectors = lengthBytes / VIRTIO_BLK_SECTOR_BYTES;
    if (lengthBytes > this.bytesMax) return false;
    return Number.isInteger(sectors) && sector <= MAX_SECTOR && sector + sectors <= this.#sectors;
  }

  /**
   * Reads the segments of a discard or write-zeroes request, for `segment`; checks all of them.
   * @returns how many; or, negative, the status that it is refused with. See 5.2.6.2.
   */
  protected readSegments(type: number, readable: ChainSide): number {
    const length = readable.bytes - VIRTIO_BLK_HEADER_BYTES;
    const count = length / VIRTIO_BLK_SEGMENT_BYTES;
    if (this.#shape.isReadOnly || !Number.isInteger(count)) return -VIRTIO_BLK_S_IOERR;
    if (count < 1 || count > BLK_SEGMENTS_MAX) return -VIRTIO_BLK_S_IOERR;
    readable.read(VIRTIO_BLK_HEADER_BYTES, this.#segments.subarray(0, length));
    for (let i = 0; i < count; i++) {
      const status = this.#checkSegment(type, i);
      if (status !== VIRTIO_BLK_S_OK) return -status;
    }
    return count;
  }

  /** One of the segments that were read last. */
  protected segment(index: number): BlkSegment {
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
    const { offset, lengthBytes, flags } = this.segment(index);
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
