// Device status, feature bits and device types. Bit numbers, not masks: bits above 31 do not fit
// a JavaScript bit operation.

/** virtio 1.3, 2.1 Device Status Field: the guest has found the device. */
export const VIRTIO_CONFIG_S_ACKNOWLEDGE = 1;
/** virtio 1.3, 2.1 Device Status Field: the guest knows how to drive the device. */
export const VIRTIO_CONFIG_S_DRIVER = 2;
/** virtio 1.3, 2.1 Device Status Field: the driver is set up, the device is live. */
export const VIRTIO_CONFIG_S_DRIVER_OK = 4;
/** virtio 1.3, 2.1 Device Status Field: feature negotiation is complete. */
export const VIRTIO_CONFIG_S_FEATURES_OK = 8;
/** virtio 1.3, 2.1 Device Status Field: the driver has given up. */
export const VIRTIO_CONFIG_S_FAILED = 128;

/** virtio 1.3, 6.3 Legacy Interface: the driver is called when all it made available is taken. */
export const VIRTIO_F_NOTIFY_ON_EMPTY = 24;
/** virtio 1.3, 6 Reserved Feature Bits: a descriptor may refer to a table of descriptors. */
export const VIRTIO_F_INDIRECT_DESC = 28;
/** virtio 1.3, 6 Reserved Feature Bits: used_event and avail_event are in use. */
export const VIRTIO_F_EVENT_IDX = 29;
/** virtio 1.3, 6 Reserved Feature Bits: the device follows this specification. */
export const VIRTIO_F_VERSION_1 = 32;
/** virtio 1.3, 6 Reserved Feature Bits: addresses are translated for the device by an IOMMU. */
export const VIRTIO_F_ACCESS_PLATFORM = 33;
/** virtio 1.3, 6 Reserved Feature Bits: packed virtqueues. */
export const VIRTIO_F_RING_PACKED = 34;
/** virtio 1.3, 6 Reserved Feature Bits: buffers come back in the order they were given in. */
export const VIRTIO_F_IN_ORDER = 35;
/** virtio 1.3, 6 Reserved Feature Bits: a kick says up to where the driver has published. */
export const VIRTIO_F_NOTIFICATION_DATA = 38;
/** virtio 1.3, 6 Reserved Feature Bits: the driver can reset one queue by itself. */
export const VIRTIO_F_RING_RESET = 40;

/** virtio 1.3, 5 Device Types: network device. */
export const VIRTIO_ID_NET = 1;
/** virtio 1.3, 5 Device Types: block device. */
export const VIRTIO_ID_BLOCK = 2;
/** virtio 1.3, 5 Device Types: console. */
export const VIRTIO_ID_CONSOLE = 3;
/** virtio 1.3, 5 Device Types: entropy source. */
export const VIRTIO_ID_RNG = 4;
/** virtio 1.3, 5 Device Types: socket device. */
export const VIRTIO_ID_VSOCK = 19;
