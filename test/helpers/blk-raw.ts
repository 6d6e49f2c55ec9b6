// Block requests as bytes, for a guest without a driver.

import { VIRTIO_BLK_HEADER_BYTES, VIRTIO_BLK_SEGMENT_BYTES } from "#dist/spec/virtio-blk.js";
import type { GuestRing, RawPiece } from "./raw-guest.js";

/** virtio 1.3, 5.2.6 Device Operation: le32 type, le32 reserved, le64 sector. */
export function blkHeader(type: number, sector: number | bigint = 0): Uint8Array {
  const bytes = new Uint8Array(VIRTIO_BLK_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setBigUint64(8, BigInt(sector), true);
  return bytes;
}

/** One segment of a discard or write-zeroes request. */
export interface RawSegment {
  sector: number | bigint;
  sectors: number;
  flags?: number;
}

/** virtio 1.3, 5.2.6 Device Operation: struct virtio_blk_discard_write_zeroes, in a row. */
export function blkSegments(segments: readonly RawSegment[]): Uint8Array {
  const bytes = new Uint8Array(segments.length * VIRTIO_BLK_SEGMENT_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, { sector, sectors, flags = 0 }] of segments.entries()) {
    view.setBigUint64(i * VIRTIO_BLK_SEGMENT_BYTES, BigInt(sector), true);
    view.setUint32(i * VIRTIO_BLK_SEGMENT_BYTES + 8, sectors, true);
    view.setUint32(i * VIRTIO_BLK_SEGMENT_BYTES + 12, flags, true);
  }
  return bytes;
}

/** What a request came back with; `status` is the last writable byte. */
export interface BlkAnswer {
  status: number;
  length: number;
  data: Uint8Array;
}

/** Header, `out`, `inBytes` of room and the status byte, each in a descriptor of its own. */
export async function blkRequest(
  ring: GuestRing,
  type: number,
  sector: number | bigint,
  out: Uint8Array = new Uint8Array(0),
  inBytes = 0,
): Promise<BlkAnswer> {
  const pieces: RawPiece[] = [blkHeader(type, sector)];
  if (out.length > 0) pieces.push(out);
  if (inBytes > 0) pieces.push(inBytes);
  return blkPieces(ring, [...pieces, 1]);
}

/** A request cut into pieces in any way; the last writable byte is the status. */
export async function blkPieces(ring: GuestRing, pieces: readonly RawPiece[]): Promise<BlkAnswer> {
  const { length, written } = await ring.request(pieces);
  const statusAt = written.length - 1;
  return { status: written[statusAt] as number, length, data: written.subarray(0, statusAt) };
}

/** Bytes that tell one place and one `seed` from another. */
export function pattern(bytes: number, seed = 1): Uint8Array {
  const result = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i++) result[i] = seed * 37 + i * 7 + (i >> 8) * 13;
  return result;
}
