import { VhostError } from "../spec/errno.js";
import { hasFeature } from "../spec/features.js";
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_ID_BYTES,
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
import { type Abortable, orAbort } from "./abort.js";
import { BlkLimits } from "./blk-limits.js";
import { BlkRequests } from "./blk-requests.js";
import { DmaBuffer } from "./dma.js";
import { type Probed, type ProbeOptions, probe, remove } from "./probe.js";
import type { Piece } from "./queue.js";
import type { Transport } from "./transport.js";

const KNOWN_FEATURES = [
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_WRITE_ZEROES,
];

/** `read` and `write` move so much at a time, through buffers of their own. */
const COPY_BYTES_MAX = 1 << 20;

/** A byte offset on the disk: a multiple of 512. */
export type DiskOffset = number | bigint;

/**
 * The driver of a virtio disk, with promises. Any number of requests at a time; those the ring has
 * no room for wait. Offsets and lengths are in bytes, multiples of 512. Every request may reject
 * with EINVAL (misaligned, past the end), EIO (the disk failed), EOPNOTSUPP (the disk can't),
 * ENODEV (the device is gone). virtio 1.3, 5.2 Block Device.
 */
export class BlkDriver implements AsyncDisposable {
  readonly #probed: Probed;
  readonly #requests: BlkRequests[];
  readonly #limits: BlkLimits;
  #next = 0;

  private constructor(probed: Probed, limits: BlkLimits, requests: BlkRequests[]) {
    this.#probed = probed;
    this.#limits = limits;
    this.#requests = requests;
  }

  /** Brings the device up. Rejects with what `probe` rejects with. */
  static async probe(transport: Transport, options: ProbeOptions = {}): Promise<BlkDriver> {
    const probed = await probe(transport, KNOWN_FEATURES, options);
    const requests: BlkRequests[] = [];
    try {
      const queueSize = Math.min(...probed.queues.map((queue) => queue.num));
      const limits = new BlkLimits(probed.config, probed.features, queueSize);
      for (const queue of probed.queues) requests.push(new BlkRequests(transport.shared, queue));
      transport.onDeath((error) => {
        for (const made of requests) made.fail(error);
      });
      return new BlkDriver(probed, limits, requests);
    } catch (error) {
      await remove(probed);
      for (const made of requests) made.release();
      throw error;
    }
  }

  /** Negotiated feature bits, as a mask. */
  get features(): bigint {
    return this.#probed.features;
  }

  #has(bit: number): boolean {
    return hasFeature(this.features, bit);
  }

  /** Bytes of the disk. */
  get sizeBytes(): number {
    return this.#limits.sizeBytes;
  }

  /** Whether writes are refused. */
  get isReadOnly(): boolean {
    return this.#has(VIRTIO_BLK_F_RO);
  }

  /** How often each ring error happened on the driver's side, by name. */
  errorCounts(): Record<string, number>[] {
    return this.#probed.queues.map((queue) => queue.errorCounts());
  }

  /** Guest memory for `readInto` and `writeFrom`. Throws ENOMEM. Free it. */
  alloc(lengthBytes: number): DmaBuffer {
    return new DmaBuffer(this.#probed.transport.shared, lengthBytes, VIRTIO_BLK_SECTOR_BYTES);
  }

  /** Reads `lengthBytes` bytes into an array of its own. */
  async read(
    offset: DiskOffset,
    lengthBytes: number,
    options: Abortable = {},
  ): Promise<Uint8Array> {
    this.#sector(offset, lengthBytes); // all of it is refused, or none
    options.signal?.throwIfAborted();
    const result = new Uint8Array(lengthBytes);
    const copy = this.#chunks(
      lengthBytes,
      async (buffer, at, partBytes) => {
        await this.#direct(VIRTIO_BLK_T_IN, Number(offset) + at, buffer, partBytes);
        result.set(buffer.bytes.subarray(0, partBytes), at);
      },
      options.signal,
    );
    await orAbort(copy, options.signal);
    return result;
  }

  /** Writes all of `bytes`. Rejects with EROFS on a read-only disk. */
  async write(offset: DiskOffset, bytes: Uint8Array, options: Abortable = {}): Promise<void> {
    this.#mustBeWritable();
    if (!(bytes instanceof Uint8Array)) {
      throw new VhostError("EINVAL", "what is written to a disk is a Uint8Array");
    }
    this.#sector(offset, bytes.length); // all of it is refused, or none
    options.signal?.throwIfAborted();
    const copy = this.#chunks(
      bytes.length,
      async (buffer, at, partBytes) => {
        const part = bytes.subarray(at, at + partBytes);
        if (part.length < partBytes) {
          throw new VhostError("EINVAL", "the bytes to write were taken away meanwhile", { at });
        }
        buffer.bytes.set(part);
        await this.#direct(VIRTIO_BLK_T_OUT, Number(offset) + at, buffer, partBytes);
      },
      options.signal,
    );
    await orAbort(copy, options.signal);
  }

  /**
   * Reads straight into `buffer`, `lengthBytes` of it or all; no copy. The memory is the device's
   * until the promise settles, which is why it can't be given up. Rejects with EINVAL for a buffer
   * that was freed or is another process's.
   */
  async readInto(offset: DiskOffset, buffer: DmaBuffer, lengthBytes?: number): Promise<void> {
    await this.#direct(VIRTIO_BLK_T_IN, offset, buffer, lengthBytes);
  }

  /** Writes straight from `buffer`, `lengthBytes` of it or all; no copy. As `readInto`. */
  async writeFrom(offset: DiskOffset, buffer: DmaBuffer, lengthBytes?: number): Promise<void> {
    this.#mustBeWritable();
    await this.#direct(VIRTIO_BLK_T_OUT, offset, buffer, lengthBytes);
  }

  async #direct(
    type: number,
    offset: DiskOffset,
    buffer: DmaBuffer,
    length?: number,
  ): Promise<void> {
    if (!(buffer instanceof DmaBuffer)) {
      throw new VhostError("EINVAL", "what is moved without a copy lies in a buffer of alloc()");
    }
    const bytes = buffer.bytes.length;
    const lengthBytes = length ?? bytes;
    const sector = this.#sector(offset, lengthBytes);
    if (lengthBytes > bytes) {
      throw new VhostError("EINVAL", `the buffer holds ${bytes} bytes`, { lengthBytes });
    }
    const data = this.#limits.cut({ address: buffer.address, length: lengthBytes });
    const isRead = type === VIRTIO_BLK_T_IN;
    await this.#move(type, sector, isRead ? [] : data, isRead ? data : [], buffer);
  }

  /** Makes stable what was written before. Nothing to do when the disk has no cache to flush. */
  async flush(options: Abortable = {}): Promise<void> {
    if (!this.#has(VIRTIO_BLK_F_FLUSH)) return;
    await orAbort(this.#move(VIRTIO_BLK_T_FLUSH, 0, [], []), options.signal);
  }

  /** The disk's identity: at most 20 bytes of text. */
  async getId(options: Abortable = {}): Promise<string> {
    const buffer = this.alloc(VIRTIO_BLK_ID_BYTES);
    const piece = { address: buffer.address, length: VIRTIO_BLK_ID_BYTES };
    const move = this.#move(VIRTIO_BLK_T_GET_ID, 0, [], [piece], buffer);
    const id = move
      .then(() => new TextDecoder().decode(buffer.bytes.slice()))
      .finally(() => buffer.free());
    return (await orAbort(id, options.signal)).replace(/\0.*$/s, "");
  }

  /** Says that these bytes are not needed any more; what they read as is undefined then. */
  async discard(offset: DiskOffset, lengthBytes: number, options: Abortable = {}): Promise<void> {
    this.#mustHave(VIRTIO_BLK_F_DISCARD, "discard");
    const most = this.#limits.discardSectorsMax;
    const sector = this.#sector(offset, lengthBytes);
    await orAbort(this.#ranges(VIRTIO_BLK_T_DISCARD, sector, lengthBytes, most, 0), options.signal);
  }

  /** Fills with zeroes; with `unmap`, the disk may free the room. */
  async writeZeroes(
    offset: DiskOffset,
    lengthBytes: number,
    options: Abortable & { unmap?: boolean } = {},
  ): Promise<void> {
    this.#mustHave(VIRTIO_BLK_F_WRITE_ZEROES, "write zeroes");
    const most = this.#limits.writeZeroesSectorsMax;
    const sector = this.#sector(offset, lengthBytes);
    const flags = options.unmap ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
    const work = this.#ranges(VIRTIO_BLK_T_WRITE_ZEROES, sector, lengthBytes, most, flags);
    await orAbort(work, options.signal);
  }

  /** Resets the device and gives the memory back; what is in flight rejects with ENODEV. */
  async close(): Promise<void> {
    const gone = new VhostError("ENODEV", "the driver is closed");
    for (const requests of this.#requests) requests.fail(gone);
    try {
      await remove(this.#probed);
    } finally {
      for (const requests of this.#requests) requests.release();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #mustBeWritable(): void {
    if (this.isReadOnly) throw new VhostError("EROFS", "the disk is read-only");
  }

  #mustHave(bit: number, what: string): void {
    this.#mustBeWritable();
    if (!this.#has(bit)) throw new VhostError("EOPNOTSUPP", `the disk does not ${what}`);
  }

  /** The sector at a byte offset, once offset and length are checked. Throws EINVAL. */
  #sector(offset: DiskOffset, lengthBytes: number): number {
    const at = Number(offset);
    const isWhole = (n: number) =>
      Number.isSafeInteger(n) && n >= 0 && n % VIRTIO_BLK_SECTOR_BYTES === 0;
    if (!isWhole(at) || !isWhole(lengthBytes)) {
      throw new VhostError("EINVAL", "offsets and lengths on a disk are multiples of 512 bytes", {
        offset,
        lengthBytes,
      });
    }
    if (at + lengthBytes > this.sizeBytes) {
      const facts = { offset, lengthBytes, sizeBytes: this.sizeBytes };
      throw new VhostError("EINVAL", `the disk ends at byte ${this.sizeBytes}`, facts);
    }
    return at / VIRTIO_BLK_SECTOR_BYTES;
  }

  /** The queues in turn, but for one that failed, as long as there is another. */
  get #turn(): BlkRequests {
    const all = this.#requests;
    const next = () => all[this.#next++ % all.length] as BlkRequests;
    let requests = next();
    for (let tries = 1; requests.isFailed && tries < all.length; tries++) requests = next();
    return requests;
  }

  /** One request. */
  #move(
    type: number,
    sector: number,
    out: readonly Piece[],
    in_: readonly Piece[],
    buffer?: DmaBuffer,
  ): Promise<void> {
    return this.#turn.send(type, sector, out, in_, buffer);
  }

  /** Goes over `length` bytes with one buffer, a part at a time; ends early when aborted. */
  async #chunks(
    length: number,
    use: (buffer: DmaBuffer, at: number, partBytes: number) => Promise<void>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (length === 0) return;
    const most = Math.min(COPY_BYTES_MAX, this.#limits.requestBytesMax);
    using buffer = this.alloc(Math.min(length, most));
    for (let at = 0; at < length && !signal?.aborted; at += most) {
      await use(buffer, at, Math.min(most, length - at));
    }
  }

  /** Discard and write zeroes, a segment a request. */
  async #ranges(
    type: number,
    sector: number,
    length: number,
    most: number,
    flags: number,
  ): Promise<void> {
    using buffer = this.alloc(VIRTIO_BLK_SEGMENT_BYTES);
    const view = this.#probed.transport.shared.view;
    const end = sector + length / VIRTIO_BLK_SECTOR_BYTES;
    for (let at = sector; at < end; at += most) {
      view.setBigUint64(buffer.address, BigInt(at), true);
      view.setUint32(buffer.address + 8, Math.min(most, end - at), true);
      view.setUint32(buffer.address + 12, flags, true);
      await this.#move(
        type,
        0,
        [{ address: buffer.address, length: VIRTIO_BLK_SEGMENT_BYTES }],
        [],
        buffer,
      );
    }
  }
}
