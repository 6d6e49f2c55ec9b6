import { featureMask } from "../spec/features.js";
import {
  VIRTIO_BLK_CONFIG_BLK_SIZE,
  VIRTIO_BLK_CONFIG_BYTES,
  VIRTIO_BLK_CONFIG_CAPACITY,
  VIRTIO_BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT,
  VIRTIO_BLK_CONFIG_MAX_DISCARD_SECTORS,
  VIRTIO_BLK_CONFIG_MAX_DISCARD_SEG,
  VIRTIO_BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS,
  VIRTIO_BLK_CONFIG_MAX_WRITE_ZEROES_SEG,
  VIRTIO_BLK_CONFIG_NUM_QUEUES,
  VIRTIO_BLK_CONFIG_SEG_MAX,
  VIRTIO_BLK_CONFIG_SIZE_MAX,
  VIRTIO_BLK_CONFIG_TOPOLOGY,
  VIRTIO_BLK_CONFIG_WRITEBACK,
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
  VIRTIO_BLK_SECTOR_BYTES,
} from "../spec/virtio-blk.js";

/** Bytes of one data segment. With `segMax` of them, the most that a request may move: 16 MiB. */
export const BLK_SEGMENT_BYTES_MAX = 1 << 16;
/** Sectors of one discard segment: 4 MiB, which a disk in memory fills with zeroes. */
export const BLK_DISCARD_SECTORS_MAX = 8192;
/** Sectors of one write-zeroes segment: 1 MiB, so that a request stays a bounded amount of work. */
export const BLK_WRITE_ZEROES_SECTORS_MAX = 2048;
/** Segments of one discard or write-zeroes request. */
export const BLK_SEGMENTS_MAX = 16;
/** Physical block and optimal I/O: 4 KiB, as files are cached. */
const PHYSICAL_BLOCK_EXP = 3;
const OPTIMAL_IO_BLOCKS = 8;

/** Features of a disk, as a mask. virtio 1.3, 5.2.3 Feature bits. */
export function blkFeatures(isReadOnly: boolean, queueCount: number): bigint {
  const limits = featureMask(VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_SEG_MAX);
  const always = limits | featureMask(VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_TOPOLOGY);
  const multi = queueCount > 1 ? featureMask(VIRTIO_BLK_F_MQ) : 0n;
  if (isReadOnly) return always | multi | featureMask(VIRTIO_BLK_F_RO, VIRTIO_BLK_F_FLUSH);
  const flush = featureMask(VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_CONFIG_WCE);
  return always | multi | flush | featureMask(VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES);
}

/** Sectors of a disk: a short last one counts, and reads as if it went on with zeroes. */
export function capacitySectors(sizeBytes: number): number {
  return Math.ceil(sizeBytes / VIRTIO_BLK_SECTOR_BYTES);
}

/** What the configuration space says. */
export interface BlkConfig {
  capacitySectors: number;
  segMax: number;
  queueCount: number;
  isWriteback: boolean;
}

/** The configuration space. virtio 1.3, 5.2.4 Device configuration layout. */
export function blkConfig(config: BlkConfig): Uint8Array {
  const bytes = new Uint8Array(VIRTIO_BLK_CONFIG_BYTES);
  const view = new DataView(bytes.buffer);
  const u32 = (offset: number, value: number) => view.setUint32(offset, value, true);
  view.setBigUint64(VIRTIO_BLK_CONFIG_CAPACITY, BigInt(config.capacitySectors), true);
  u32(VIRTIO_BLK_CONFIG_SIZE_MAX, BLK_SEGMENT_BYTES_MAX);
  u32(VIRTIO_BLK_CONFIG_SEG_MAX, config.segMax);
  u32(VIRTIO_BLK_CONFIG_BLK_SIZE, VIRTIO_BLK_SECTOR_BYTES);
  view.setUint8(VIRTIO_BLK_CONFIG_TOPOLOGY, PHYSICAL_BLOCK_EXP);
  view.setUint16(VIRTIO_BLK_CONFIG_TOPOLOGY + 2, 1, true);
  u32(VIRTIO_BLK_CONFIG_TOPOLOGY + 4, OPTIMAL_IO_BLOCKS);
  view.setUint8(VIRTIO_BLK_CONFIG_WRITEBACK, config.isWriteback ? 1 : 0);
  view.setUint16(VIRTIO_BLK_CONFIG_NUM_QUEUES, config.queueCount, true);
  u32(VIRTIO_BLK_CONFIG_MAX_DISCARD_SECTORS, BLK_DISCARD_SECTORS_MAX);
  u32(VIRTIO_BLK_CONFIG_MAX_DISCARD_SEG, BLK_SEGMENTS_MAX);
  u32(VIRTIO_BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT, 1 << PHYSICAL_BLOCK_EXP);
  u32(VIRTIO_BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS, BLK_WRITE_ZEROES_SECTORS_MAX);
  u32(VIRTIO_BLK_CONFIG_MAX_WRITE_ZEROES_SEG, BLK_SEGMENTS_MAX);
  return bytes;
}
