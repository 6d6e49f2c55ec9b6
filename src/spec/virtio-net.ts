// virtio 1.3, 5.1 Network Device.

/** Feature bit number. virtio 1.3, 5.1.3 Feature bits: the device makes the driver's checksums. */
export const VIRTIO_NET_F_CSUM = 0;
/** virtio 1.3, 5.1.3 Feature bits: the driver takes packets whose checksum is not made. */
export const VIRTIO_NET_F_GUEST_CSUM = 1;
/** virtio 1.3, 5.1.3 Feature bits: the driver says by command what it takes. */
export const VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = 2;
/** virtio 1.3, 5.1.3 Feature bits: `mtu` in the configuration space holds. */
export const VIRTIO_NET_F_MTU = 3;
/** virtio 1.3, 5.1.3 Feature bits: `mac` in the configuration space holds. */
export const VIRTIO_NET_F_MAC = 5;
/** virtio 1.3, 5.1.3 Feature bits: the driver takes TCP over IPv4 that is not cut in segments. */
export const VIRTIO_NET_F_GUEST_TSO4 = 7;
/** virtio 1.3, 5.1.3 Feature bits: the driver takes TCP over IPv6 that is not cut in segments. */
export const VIRTIO_NET_F_GUEST_TSO6 = 8;
/** virtio 1.3, 5.1.3 Feature bits: the driver takes such TCP with ECN. */
export const VIRTIO_NET_F_GUEST_ECN = 9;
/** virtio 1.3, 5.1.3 Feature bits: the device cuts TCP over IPv4 in segments. */
export const VIRTIO_NET_F_HOST_TSO4 = 11;
/** virtio 1.3, 5.1.3 Feature bits: the device cuts TCP over IPv6 in segments. */
export const VIRTIO_NET_F_HOST_TSO6 = 12;
/** virtio 1.3, 5.1.3 Feature bits: the device cuts such TCP with ECN. */
export const VIRTIO_NET_F_HOST_ECN = 13;
/** virtio 1.3, 5.1.3 Feature bits: a packet to the driver may be in several buffers. */
export const VIRTIO_NET_F_MRG_RXBUF = 15;
/** virtio 1.3, 5.1.3 Feature bits: `status` in the configuration space holds. */
export const VIRTIO_NET_F_STATUS = 16;
/** virtio 1.3, 5.1.3 Feature bits: there is a control queue. */
export const VIRTIO_NET_F_CTRL_VQ = 17;
/** virtio 1.3, 5.1.3 Feature bits: the driver says which packets it takes. */
export const VIRTIO_NET_F_CTRL_RX = 18;
/** virtio 1.3, 5.1.3 Feature bits: the driver says which VLANs it takes. */
export const VIRTIO_NET_F_CTRL_VLAN = 19;
/** virtio 1.3, 5.1.3 Feature bits: VIRTIO_NET_CTRL_RX has four commands more. */
export const VIRTIO_NET_F_CTRL_RX_EXTRA = 20;
/** virtio 1.3, 5.1.3 Feature bits: the driver can be told to send packets that say where it is. */
export const VIRTIO_NET_F_GUEST_ANNOUNCE = 21;
/** virtio 1.3, 5.1.3 Feature bits: several pairs of queues. */
export const VIRTIO_NET_F_MQ = 22;
/** virtio 1.3, 5.1.3 Feature bits: the driver sets its address by command. */
export const VIRTIO_NET_F_CTRL_MAC_ADDR = 23;
/** virtio 1.3, 5.1.3 Feature bits: the driver takes UDP over IPv4 that is not cut. */
export const VIRTIO_NET_F_GUEST_USO4 = 54;
/** virtio 1.3, 5.1.3 Feature bits: the driver takes UDP over IPv6 that is not cut. */
export const VIRTIO_NET_F_GUEST_USO6 = 55;
/** virtio 1.3, 5.1.3 Feature bits: the device cuts UDP in datagrams. */
export const VIRTIO_NET_F_HOST_USO = 56;

/** Queue number. virtio 1.3, 5.1.2 Virtqueues: receiveq1, packets to the driver. */
export const VIRTIO_NET_QUEUE_RX = 0;
/** virtio 1.3, 5.1.2 Virtqueues: transmitq1, packets to the device. */
export const VIRTIO_NET_QUEUE_TX = 1;
/** virtio 1.3, 5.1.2 Virtqueues: queues of a pair; the next pair's follow. */
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

/** Byte in front of a command's data: what it is about. virtio 1.3, 5.1.6.5 Control Virtqueue. */
export const VIRTIO_NET_CTRL_CLASS = 0;
/** The byte after it: what is to be done. */
export const VIRTIO_NET_CTRL_COMMAND = 1;
/** Where a command's data begin. */
export const VIRTIO_NET_CTRL_DATA = 2;
/** `ack`: it was done. virtio 1.3, 5.1.6.5 Control Virtqueue. */
export const VIRTIO_NET_OK = 0;
/** `ack`: it was not. */
export const VIRTIO_NET_ERR = 1;
/** Class. virtio 1.3, 5.1.6.5.1 Packet Receive Filtering: a u8, 0 or 1, for each command. */
export const VIRTIO_NET_CTRL_RX = 0;
/** Command: all packets. */
export const VIRTIO_NET_CTRL_RX_PROMISC = 0;
/** Command: all that are for groups. */
export const VIRTIO_NET_CTRL_RX_ALLMULTI = 1;
/** Command: all that are for one station. */
export const VIRTIO_NET_CTRL_RX_ALLUNI = 2;
/** Command: none that are for groups. */
export const VIRTIO_NET_CTRL_RX_NOMULTI = 3;
/** Command: none that are for one station. */
export const VIRTIO_NET_CTRL_RX_NOUNI = 4;
/** Command: none that are for all. */
export const VIRTIO_NET_CTRL_RX_NOBCAST = 5;
/** Class. virtio 1.3, 5.1.6.5.2 Setting MAC Address Filtering. */
export const VIRTIO_NET_CTRL_MAC = 1;
/** Command: two tables, of stations and of groups, each a le32 and so many addresses. */
export const VIRTIO_NET_CTRL_MAC_TABLE_SET = 0;
/** Command: the driver's own address. */
export const VIRTIO_NET_CTRL_MAC_ADDR_SET = 1;
/** Class. virtio 1.3, 5.1.6.5.3 VLAN Filtering: a le16 for each command. */
export const VIRTIO_NET_CTRL_VLAN = 2;
/** Command: frames of that VLAN, too. */
export const VIRTIO_NET_CTRL_VLAN_ADD = 0;
/** Command: not any more. */
export const VIRTIO_NET_CTRL_VLAN_DEL = 1;
/** Class. virtio 1.3, 5.1.6.5.4 Gratuitous Packet Sending. */
export const VIRTIO_NET_CTRL_ANNOUNCE = 3;
/** Command, without data: the driver does so. */
export const VIRTIO_NET_CTRL_ANNOUNCE_ACK = 0;
/** Class. virtio 1.3, 5.1.6.5.5 Device operation in multiqueue mode. */
export const VIRTIO_NET_CTRL_MQ = 4;
/** Command, a le16: pairs of queues that the driver uses. */
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET = 0;
/** Class. virtio 1.3, 5.1.6.5.6 Offloads State Configuration. */
export const VIRTIO_NET_CTRL_GUEST_OFFLOADS = 5;
/** Command, a le64: features, as a mask, of those that say what a driver takes. */
export const VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET = 0;

/** The least bytes of a buffer for a packet that is not in several. virtio 1.3, 5.1.6.3.1. */
export const VIRTIO_NET_BUFFER_BYTES = 1526;
/** The same of a driver that takes packets which are not cut. virtio 1.3, 5.1.6.3.1. */
export const VIRTIO_NET_LARGE_BUFFER_BYTES = 65562;
/** Bytes of `struct virtio_net_hdr`. virtio 1.3, 5.1.6 Device Operation. */
export const VIRTIO_NET_HDR_BYTES = 12;
/** Offset in the header, u8: VIRTIO_NET_HDR_F_… virtio 1.3, 5.1.6 Device Operation. */
export const VIRTIO_NET_HDR_FLAGS = 0;
/** `flags`, mask: a checksum is to be made. virtio 1.3, 5.1.6.2 Packet Transmission. */
export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
/** Offset in the header, u8: how the packet is to be cut in segments; 0: it is not. */
export const VIRTIO_NET_HDR_GSO_TYPE = 1;
/** `gso_type`: TCP over IPv4. virtio 1.3, 5.1.6 Device Operation. */
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1;
/** `gso_type`: TCP over IPv6. */
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4;
/** `gso_type`: UDP, each segment a datagram. */
export const VIRTIO_NET_HDR_GSO_UDP_L4 = 5;
/** `gso_type`, mask: TCP with ECN: the first segment alone has CWR. */
export const VIRTIO_NET_HDR_GSO_ECN = 0x80;
/** Offset in the header, le16: bytes of the headers that each segment gets; a hint. */
export const VIRTIO_NET_HDR_HDR_LEN = 2;
/** Offset in the header, le16: bytes of payload of each segment but the last. */
export const VIRTIO_NET_HDR_GSO_SIZE = 4;
/** Offset in the header, le16: where the checksum begins to count, in bytes of the frame. */
export const VIRTIO_NET_HDR_CSUM_START = 6;
/** Offset in the header, le16: where it goes, in bytes from there. */
export const VIRTIO_NET_HDR_CSUM_OFFSET = 8;
/** Offset in the header, le16: buffers that the packet is in. virtio 1.3, 5.1.6.4. */
export const VIRTIO_NET_HDR_NUM_BUFFERS = 10;

/** Bytes in front of a packet's payload: two addresses and a type. Linux: ETH_HLEN. */
export const ETH_HLEN = 14;
/** The least packet: a header, and what is in front of a payload. */
export const NET_PACKET_BYTES_MIN = VIRTIO_NET_HDR_BYTES + ETH_HLEN;
/** The least bytes of a frame on a wire, without what ends it. Linux: ETH_ZLEN. */
export const ETH_ZLEN = 60;
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
/** VLANs that a tag can name, 0 included. IEEE 802.1Q. */
export const VLAN_N_VID = 4096;
/** Of a tag, the VLAN. */
export const VLAN_VID_MASK = VLAN_N_VID - 1;
/** In an address's first byte: for a group of stations. IEEE 802.3. */
export const ETH_GROUP = 1;
