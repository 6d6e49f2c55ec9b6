// virtio 1.3, 5.2 Block Device.

/** Feature bit numbers. virtio 1.3, 5.2.3 Feature bits: `size_max` is valid. */
export const VIRTIO_BLK_F_SIZE_MAX = 1;
/** virtio 1.3, 5.2.3 Feature bits: `seg_max` is valid. */
export const VIRTIO_BLK_F_SEG_MAX = 2;
/** virtio 1.3, 5.2.3 Feature bits: the disk is read-only. */
export const VIRTIO_BLK_F_RO = 5;
/** virtio 1.3, 5.2.3 Feature bits: `blk_size` is valid. */
export const VIRTIO_BLK_F_BLK_SIZE = 6;
/** virtio 1.3, 5.2.3 Feature bits: the device takes VIRTIO_BLK_T_FLUSH. */
export const VIRTIO_BLK_F_FLUSH = 9;
/** virtio 1.3, 5.2.3 Feature bits: `topology` is valid. */
export const VIRTIO_BLK_F_TOPOLOGY = 10;
/** virtio 1.3, 5.2.3 Feature bits: the driver may switch the cache mode by `writeback`. */
export const VIRTIO_BLK_F_CONFIG_WCE = 11;
/** virtio 1.3, 5.2.3 Feature bits: several request queues. */
export const VIRTIO_BLK_F_MQ = 12;
/** virtio 1.3, 5.2.3 Feature bits: the device takes VIRTIO_BLK_T_DISCARD. */
export const VIRTIO_BLK_F_DISCARD = 13;
/** virtio 1.3, 5.2.3 Feature bits: the device takes VIRTIO_BLK_T_WRITE_ZEROES. */
export const VIRTIO_BLK_F_WRITE_ZEROES = 14;

/** Request types. virtio 1.3, 5.2.6 Device Operation: read. */
export const VIRTIO_BLK_T_IN = 0;
/** virtio 1.3, 5.2.6 Device Operation: write. */
export const VIRTIO_BLK_T_OUT = 1;
/** virtio 1.3, 5.2.6 Device Operation: make what was written stable. */
export const VIRTIO_BLK_T_FLUSH = 4;
/** virtio 1.3, 5.2.6 Device Operation: read the device's identity, 20 bytes. */
export const VIRTIO_BLK_T_GET_ID = 8;
/** virtio 1.3, 5.2.6 Device Operation: these sectors are not needed any more. */
export const VIRTIO_BLK_T_DISCARD = 11;
/** virtio 1.3, 5.2.6 Device Operation: fill these sectors with zeroes. */
export const VIRTIO_BLK_T_WRITE_ZEROES = 13;

/** Status byte. virtio 1.3, 5.2.6 Device Operation: done. */
export const VIRTIO_BLK_S_OK = 0;
/** virtio 1.3, 5.2.6 Device Operation: device or driver error. */
export const VIRTIO_BLK_S_IOERR = 1;
/** virtio 1.3, 5.2.6 Device Operation: the device does not do this request. */
export const VIRTIO_BLK_S_UNSUPP = 2;

/** The unit of every sector number and count. virtio 1.3, 5.2.4 Device configuration layout. */
export const VIRTIO_BLK_SECTOR_BYTES = 512;
/** Bytes of the request header: le32 type, le32 reserved, le64 sector. */
export const VIRTIO_BLK_HEADER_BYTES = 16;
/** Bytes that VIRTIO_BLK_T_GET_ID gives. virtio 1.3, 5.2.6 Device Operation. */
export const VIRTIO_BLK_ID_BYTES = 20;
/** Bytes of a discard or write-zeroes segment: le64 sector, le32 num_sectors, le32 flags. */
export const VIRTIO_BLK_SEGMENT_BYTES = 16;
/** The segment's only flag. virtio 1.3, 5.2.6 Device Operation. */
export const VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP = 1;

/** Offsets in `struct virtio_blk_config`. virtio 1.3, 5.2.4 Device configuration layout: le64. */
export const VIRTIO_BLK_CONFIG_CAPACITY = 0;
/** Offset, le32. */
export const VIRTIO_BLK_CONFIG_SIZE_MAX = 8;
/** Offset, le32. */
export const VIRTIO_BLK_CONFIG_SEG_MAX = 12;
/** Offset, le32. */
export const VIRTIO_BLK_CONFIG_BLK_SIZE = 20;
/** Offset: u8 physical_block_exp, u8 alignment_offset, le16 min_io_size, le32 opt_io_size. */
export const VIRTIO_BLK_CONFIG_TOPOLOGY = 24;
/** Offset, u8. */
export const VIRTIO_BLK_CONFIG_WRITEBACK = 32;
/** Offset, le16. */
export const VIRTIO_BLK_CONFIG_NUM_QUEUES = 34;
/** Offset, le32. */
export const VIRTIO_BLK_CONFIG_MAX_DISCARD_SECTORS = 36;
/** Offset, le32. */
export const VIRTIO_BLK_CONFIG_MAX_DISCARD_SEG = 40;
/** Offset, le32. */
export const VIRTIO_BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT = 44;
/** Offset, le32. */
export const VIRTIO_BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS = 48;
/** Offset, le32. */
export const VIRTIO_BLK_CONFIG_MAX_WRITE_ZEROES_SEG = 52;
/** Bytes of the configuration that this device fills in. */
export const VIRTIO_BLK_CONFIG_BYTES = 60;
