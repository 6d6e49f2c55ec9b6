import { errno } from "../spec/errno.js";
import {
  VIRTIO_BLK_HEADER_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_SECTOR_BYTES,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../spec/virtio-blk.js";
import type { Chain, ChainSide } from "../vhost/chain.js";
import type { VirtioDevice } from "../vhost/device.js";
import type { Virtqueue } from "../vhost/virtqueue.js";
import type { BlkBackend } from "./blk-backend.js";
import { BlkBase, type BlkShared } from "./blk-base.js";

/**
 * A block device over a back-end. Each request is done before the next begins; what the guest got
 * wrong becomes the request's status. virtio 1.3, 5.2 Block Device.
 */
export class BlkDevice extends BlkBase implements VirtioDevice {
  readonly #backend: BlkBackend;
  /** The error number of what the back-end failed at in this request, or 0. */
  #errno = 0;

  /** `id`: at most 20 bytes of text for GET_ID. `shared`: in a further worker, the first's. */
  constructor(
    backend: BlkBackend,
    id: string,
    queueCount: number,
    queueSizeMax: number,
    shared?: BlkShared,
  ) {
    const { sizeBytes, isReadOnly } = backend;
    super({ sizeBytes, isReadOnly, id, queueCount, queueSizeMax }, shared);
    this.#backend = backend;
  }

  protected flushNow(): void {
    this.#backend.flush();
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
    const answer = this.answerUnfit(chain, vq);
    if (answer !== undefined) return answer;
    const { readable, writable } = chain;
    const type = readable.u32(0);
    this.#errno = 0;
    const status = this.#perform(type, readable, writable, writable.bytes - 1);
    if (this.#errno !== 0) vq.failed(this.#errno);
    return this.finish(writable, type, status);
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
        return this.getId(writable, length);
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

  #read(sector: number, writable: ChainSide, length: number): number {
    if (!this.isWithin(sector, length)) return VIRTIO_BLK_S_IOERR;
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
    if (this.#backend.isReadOnly || !this.isWithin(sector, length)) return VIRTIO_BLK_S_IOERR;
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
    return this.isWriteback ? VIRTIO_BLK_S_OK : this.#toStatus(this.#backend.flush());
  }

  /** Discard and write zeroes: all segments are checked before the first is done. See 5.2.6.2. */
  #discardOrZero(type: number, readable: ChainSide): number {
    const count = this.readSegments(type, readable);
    if (count < 0) return -count;
    for (let i = 0; i < count; i++) {
      const { offset, lengthBytes } = this.segment(i);
      const result =
        type === VIRTIO_BLK_T_DISCARD
          ? this.#backend.discard(offset, lengthBytes)
          : this.#backend.writeZeroes(offset, lengthBytes);
      const status = this.#toStatus(result);
      if (status !== VIRTIO_BLK_S_OK) return status;
    }
    return type === VIRTIO_BLK_T_DISCARD ? VIRTIO_BLK_S_OK : this.#settle();
  }
}
