import {
  VIRTIO_BLK_HEADER_BYTES,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_SECTOR_BYTES,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
} from "../../spec/virtio-blk.js";
import { VIRTIO_ID_BLOCK } from "../../spec/virtio-config.js";

/** A request that is good: what the shapes are made from, and what a queue must still serve. */
export interface HostileRequest {
  /** What the device reads. */
  readable: Uint8Array;
  /** Bytes that it may write. */
  writableBytes: number;
  /** Whether what it wrote is an answer. Without this, every answer is one. */
  isAnswer?(written: Uint8Array): boolean;
}

/** Header of a block request. virtio 1.3, 5.2.6 Device Operation. `sector`: a u64. */
export function blkHeader(type: number, sector = 0n): Uint8Array {
  const bytes = new Uint8Array(VIRTIO_BLK_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setBigUint64(8, sector, true);
  return bytes;
}

/** The good request of a device class: of a disk, a read of its first sector. */
export function goodRequest(deviceId: number): HostileRequest {
  if (deviceId !== VIRTIO_ID_BLOCK) {
    return { readable: new Uint8Array(16).fill(0x5a), writableBytes: 16 };
  }
  return {
    readable: blkHeader(VIRTIO_BLK_T_IN),
    writableBytes: VIRTIO_BLK_SECTOR_BYTES + 1,
    isAnswer: (written) => written[VIRTIO_BLK_SECTOR_BYTES] === VIRTIO_BLK_S_OK,
  };
}

/** What makes a device write to a buffer of any length: of a disk, GET_ID. */
export function writingRequest(deviceId: number, good: HostileRequest): Uint8Array {
  return deviceId === VIRTIO_ID_BLOCK ? blkHeader(VIRTIO_BLK_T_GET_ID) : good.readable;
}
