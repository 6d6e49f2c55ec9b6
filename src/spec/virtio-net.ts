// virtio 1.3, 5.1 Network Device.

/** Feature bit number. virtio 1.3, 5.1.3 Feature bits: the device makes the driver's checksums. */
export const VIRTIO_NET_F_CSUM = 0;
/** virtio 1.3, 5.1.3 Feature bits: the driver takes packets whose checksum is not made. */
export const VIRTIO_NET_F_GUEST_CSUM = 1;
/** virtio 1.3, 5.1.3 Feature bits: `mtu` in the configuration space holds. */
export const VIRTIO_NET_F_MTU = 3;
/** virtio 1.3, 5.1.3 Feature bits: `mac` in the configuration space holds. */
export const VIRTIO_NET_F_MAC = 5;
/** virtio 1.3, 5.1.3 Feature bits: a packet to the driver may be in several buffers. */
export const VIRTIO_NET_F_MRG_RXBUF = 15;
/** virtio 1.3, 5.1.3 Feature bits: `status` in the configuration space holds. */
export const VIRTIO_NET_F_STATUS = 16;

/** Queue number. virtio 1.3, 5.1.2 Virtqueues: receiveq1, packets to the driver. */
export const VIRTIO_NET_QUEUE_RX = 0;
/** virtio 1.3, 5.1.2 Virtqueues: transmitq1, packets to the device. */
export const VIRTIO_NET_QUEUE_TX = 1;
/** virtio 1.3, 5.1.2 Virtqueues: how many, without VIRTIO_NET_F_CTRL_VQ and VIRTIO_NET_F_MQ. */
export const VIRTIO_NET_QUEUES = 2;

/** Bytes of the configuration space up to `mtu`. virtio 1.3, 5.1.4. */
export const VIRTIO_NET_CONFIG_BYTES = 12;
/** Offset: u8[6]. virtio 1.3, 5.1.4 Device configuration layout. */
export const VIRTIO_NET_CONFIG_MAC = 0;
/** Offset, le16: VIRTIO_NET_S_… */
export const VIRTIO_NET_CONFIG_STATUS = 6;
/** Offset, le16. */
export const VIRTIO_NET_CONFIG_MAX_VIRTQUEUE_PAIRS = 8;
/** Offset, le16. */
export const VIRTIO_NET_CONFIG_MTU = 10;

/** `status`, mask. virtio 1.3, 5.1.4 Device configuration layout. */
export const VIRTIO_NET_S_LINK_UP = 1;
/** virtio 1.3, 5.1.4.1 Device Requirements: Device configuration layout: the least `mtu`. */
export const VIRTIO_NET_MTU_MIN = 68;

/** Bytes of `struct virtio_net_hdr`. virtio 1.3, 5.1.6 Device Operation. */
export const VIRTIO_NET_HDR_BYTES = 12;
/** Offset in the header, u8: VIRTIO_NET_HDR_F_… virtio 1.3, 5.1.6 Device Operation. */
export const VIRTIO_NET_HDR_FLAGS = 0;
/** `flags`, mask: a checksum is to be made. virtio 1.3, 5.1.6.2 Packet Transmission. */
export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
/** Offset in the header, u8: how the packet is to be cut in segments; 0: it is not. */
export const VIRTIO_NET_HDR_GSO_TYPE = 1;
/** Offset in the header, le16: where the checksum begins to count, in bytes of the frame. */
export const VIRTIO_NET_HDR_CSUM_START = 6;
/** Offset in the header, le16: where it goes, in bytes from there. */
export const VIRTIO_NET_HDR_CSUM_OFFSET = 8;
/** Offset in the header, le16: buffers that the packet is in. virtio 1.3, 5.1.6.4. */
export const VIRTIO_NET_HDR_NUM_BUFFERS = 10;

/** Bytes in front of a packet's payload: two addresses and a type. Linux: ETH_HLEN. */
export const ETH_HLEN = 14;
/** Bytes of an address. Linux: ETH_ALEN. */
export const ETH_ALEN = 6;
/** Bytes of the tag that names a VLAN. Linux: VLAN_HLEN. */
export const VLAN_HLEN = 4;
/** The type that such a tag begins with. Linux: ETH_P_8021Q. */
export const ETH_P_8021Q = 0x8100;
/** The last VLAN of all; 0 and 4095 are none. IEEE 802.1Q. */
export const VLAN_VID_MAX = 4094;
/** Payload of a packet unless told. Linux: ETH_DATA_LEN. */
export const ETH_DATA_LEN = 1500;
/** The most payload. Linux: ETH_MAX_MTU. */
export const ETH_MAX_MTU = 65535;
