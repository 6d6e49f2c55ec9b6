// Numbers of the split and the packed virtqueue. Read by both compilers (asc folds them to
// literals): numbers only.

/** virtio 1.3, 2.7.5 The Virtqueue Descriptor Table: the chain goes on at `next`. */
export const VIRTQ_DESC_F_NEXT = 1;
/** virtio 1.3, 2.7.5 The Virtqueue Descriptor Table: the device writes this buffer. */
export const VIRTQ_DESC_F_WRITE = 2;
/** virtio 1.3, 2.7.5.3 Indirect Descriptors: the buffer holds a table of descriptors. */
export const VIRTQ_DESC_F_INDIRECT = 4;

/** virtio 1.3, 2.7.6 The Virtqueue Available Ring: the driver asks not to be called. */
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
/** virtio 1.3, 2.7.8 The Virtqueue Used Ring: the device asks not to be kicked. */
export const VIRTQ_USED_F_NO_NOTIFY = 1;

/** virtio 1.3, 2.7 Split Virtqueues: a queue has at most this many entries. */
export const VIRTQ_SIZE_MAX = 32768;

/** Bytes of a descriptor: le64 addr, le32 len, le16 flags, le16 next. */
export const VIRTQ_DESC_BYTES = 16;
/** Offset of `len` in a descriptor. */
export const VIRTQ_DESC_LEN = 8;
/** Offset of `flags` in a descriptor. */
export const VIRTQ_DESC_FLAGS = 12;
/** Offset of `next` in a descriptor. */
export const VIRTQ_DESC_NEXT = 14;

/** Offset of `flags` in the available ring and in the used ring. */
export const VIRTQ_RING_FLAGS = 0;
/** Offset of `idx` in the available ring and in the used ring. */
export const VIRTQ_RING_IDX = 2;
/** Offset of the first element of the available ring and of the used ring. */
export const VIRTQ_RING_ELEMENTS = 4;
/** Bytes of an element of the available ring: le16 head. */
export const VIRTQ_AVAIL_ELEM_BYTES = 2;
/** Bytes of an element of the used ring: le32 id, le32 len. */
export const VIRTQ_USED_ELEM_BYTES = 8;
/** Offset of `len` in an element of the used ring. */
export const VIRTQ_USED_ELEM_LEN = 4;

/** Required alignment in bytes. virtio 1.3, 2.7 Split Virtqueues. */
export const VIRTQ_DESC_ALIGN = 16;
/** Required alignment in bytes. virtio 1.3, 2.7 Split Virtqueues. */
export const VIRTQ_AVAIL_ALIGN = 2;
/** Required alignment in bytes. virtio 1.3, 2.7 Split Virtqueues. */
export const VIRTQ_USED_ALIGN = 4;

// ── packed ──────────────────────────────────────────────────────────────────────────────────────
/** virtio 1.3, 2.8.1 Driver and Device Ring Wrap Counters: equal to the wrap counter: available. */
export const VIRTQ_DESC_F_AVAIL = 128;
/** virtio 1.3, 2.8.1 Driver and Device Ring Wrap Counters: equal to AVAIL: used. */
export const VIRTQ_DESC_F_USED = 32768;
/** Offset of `id` in a packed descriptor: le64 addr, le32 len, le16 id, le16 flags. */
export const PVIRTQ_DESC_ID = 12;
/** Offset of `flags` in a packed descriptor. */
export const PVIRTQ_DESC_FLAGS = 14;
/** Bytes of an event suppression structure: le16 desc (a position), le16 flags. */
export const PVIRTQ_EVENT_BYTES = 4;
/** Required alignment in bytes. virtio 1.3, 2.8.10.1 Structure Size and Alignment. */
export const PVIRTQ_EVENT_ALIGN = 4;
/** virtio 1.3, 2.8.10 Driver and Device Event Suppression: notify always. */
export const RING_EVENT_FLAGS_ENABLE = 0;
/** virtio 1.3, 2.8.10 Driver and Device Event Suppression: do not notify. */
export const RING_EVENT_FLAGS_DISABLE = 1;
/** virtio 1.3, 2.8.10 Driver and Device Event Suppression: notify at `desc`; with EVENT_IDX. */
export const RING_EVENT_FLAGS_DESC = 2;
/** The bits of `flags` that count; the others are reserved. */
export const RING_EVENT_FLAGS_MASK = 3;
