import { VhostError } from "../spec/errno.js";
import { hasFeature } from "../spec/features.js";
import {
  VIRTIO_BLK_CONFIG_BYTES,
  VIRTIO_BLK_CONFIG_CAPACITY,
  VIRTIO_BLK_CONFIG_MAX_DISCARD_SECTORS,
  VIRTIO_BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS,
  VIRTIO_BLK_CONFIG_SEG_MAX,
  VIRTIO_BLK_CONFIG_SIZE_MAX,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_SECTOR_BYTES,
} from "../spec/virtio-blk.js";
import type { Piece } from "./queue.js";

/** Descriptors of a request beside its data: header and status. */
const OVERHEAD_PIECES = 2;
/** Data of one request where the device names no limit for a piece. */
const PIECE_BYTES_DEFAULT = 1 << 20;

/** What a disk's configuration and the driver's own ring allow, checked once. */
export class BlkLimits {
  /** Bytes of the disk. */
  readonly sizeBytes: number;
  /** Bytes of one piece of data. */
  readonly pieceBytes: number;
  /** Pieces of data in one request. */
  readonly piecesMax: number;
  /** Sectors of one discard segment; 0: the disk does not discard. */
  readonly discardSectorsMax: number;
  /** Sectors of one write-zeroes segment; 0: the disk does not write zeroes. */
  readonly writeZeroesSectorsMax: number;

  /**
   * `queueSize`: entries of the driver's ring, which no chain may be longer than (virtio 1.3,
   * 2.7.5.3.1 Driver Requirements: Indirect Descriptors). Throws EINVAL when it has no room for a
   * request, EIO for a configuration that makes no sense.
   */
  constructor(config: Uint8Array, features: bigint, queueSize: number) {
    if (queueSize <= OVERHEAD_PIECES) {
      const least = OVERHEAD_PIECES + 1;
      const message = `a disk's ring has at least ${least} entries: so many has a request`;
      throw new VhostError("EINVAL", message, { queueSize });
    }
    if (config.length < VIRTIO_BLK_CONFIG_BYTES) {
      throw new VhostError("EIO", "the disk's configuration is cut short", {
        bytes: config.length,
      });
    }
    const view = new DataView(config.buffer, config.byteOffset, config.byteLength);
    const u32 = (offset: number) => view.getUint32(offset, true);
    const has = (bit: number) => hasFeature(features, bit);
    const limit = (bit: number, offset: number, otherwise: number) => {
      const value = has(bit) ? u32(offset) : otherwise;
      if (has(bit) && value === 0)
        throw new VhostError("EIO", "the disk has a limit of 0", { offset });
      return value;
    };
    const sectors = Number(view.getBigUint64(VIRTIO_BLK_CONFIG_CAPACITY, true));
    this.sizeBytes = sectors * VIRTIO_BLK_SECTOR_BYTES;
    this.pieceBytes = limit(VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_CONFIG_SIZE_MAX, PIECE_BYTES_DEFAULT);
    const segments = limit(VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_CONFIG_SEG_MAX, 1);
    this.piecesMax = Math.min(segments, queueSize - OVERHEAD_PIECES);
    this.discardSectorsMax = limit(VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_CONFIG_MAX_DISCARD_SECTORS, 0);
    this.writeZeroesSectorsMax = limit(
      VIRTIO_BLK_F_WRITE_ZEROES,
      VIRTIO_BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS,
      0,
    );
    if (this.requestBytesMax === 0) {
      throw new VhostError("EIO", "the disk takes no request of a whole sector", {});
    }
  }

  /** The most that one request moves, in whole sectors. */
  get requestBytesMax(): number {
    const bytes = this.pieceBytes * this.piecesMax;
    return bytes - (bytes % VIRTIO_BLK_SECTOR_BYTES);
  }

  /**
   * A run of memory as pieces that the device takes. Throws EINVAL when one request can't hold it.
   */
  cut({ address, length }: Piece): Piece[] {
    if (length > this.requestBytesMax) {
      const most = this.requestBytesMax;
      throw new VhostError("EINVAL", `a request moves at most ${most} bytes here`, { length });
    }
    const pieces: Piece[] = [];
    for (let at = 0; at < length; at += this.pieceBytes) {
      pieces.push({ address: address + at, length: Math.min(this.pieceBytes, length - at) });
    }
    return pieces;
  }
}
