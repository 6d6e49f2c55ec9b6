// virtio 1.3, 5.10 Socket Device.

/** Feature bit number. virtio 1.3, 5.10.3 Feature bits: stream sockets. */
export const VIRTIO_VSOCK_F_STREAM = 0;

/** Queue numbers, as the driver sees them. virtio 1.3, 5.10.2 Virtqueues: packets to the driver. */
export const VIRTIO_VSOCK_QUEUE_RX = 0;
/** virtio 1.3, 5.10.2 Virtqueues: packets to the device. */
export const VIRTIO_VSOCK_QUEUE_TX = 1;
/** virtio 1.3, 5.10.2 Virtqueues: events to the driver. */
export const VIRTIO_VSOCK_QUEUE_EVENT = 2;
/** virtio 1.3, 5.10.2 Virtqueues: how many. */
export const VIRTIO_VSOCK_QUEUES = 3;

/** Bytes of the configuration space: le64 guest_cid. virtio 1.3, 5.10.4. */
export const VIRTIO_VSOCK_CONFIG_BYTES = 8;

/** The host's CID. virtio 1.3, 5.10.4 Device configuration layout: 0, 1 and 2 are reserved. */
export const VMADDR_CID_HOST = 2;
/** The lowest CID that a guest may have. virtio 1.3, 5.10.4 Device configuration layout. */
export const VMADDR_CID_GUEST_MIN = 3;
/** No CID of anyone's, and no port. virtio 1.3, 5.10.4. Linux: VMADDR_CID_ANY, VMADDR_PORT_ANY. */
export const VMADDR_ANY = 0xffff_ffff;

/** Bytes of `struct virtio_vsock_hdr`. virtio 1.3, 5.10.6 Device Operation. */
export const VIRTIO_VSOCK_HEADER_BYTES = 44;
/** The most that one packet carries. Linux: VIRTIO_VSOCK_MAX_PKT_BUF_SIZE. */
export const VIRTIO_VSOCK_PAYLOAD_BYTES_MAX = 65536;

/** Offset in the header: le64. virtio 1.3, 5.10.6 Device Operation. */
export const VIRTIO_VSOCK_HDR_SRC_CID = 0;
/** Offset, le64. */
export const VIRTIO_VSOCK_HDR_DST_CID = 8;
/** Offset, le32. */
export const VIRTIO_VSOCK_HDR_SRC_PORT = 16;
/** Offset, le32. */
export const VIRTIO_VSOCK_HDR_DST_PORT = 20;
/** Offset, le32: bytes of payload behind the header. */
export const VIRTIO_VSOCK_HDR_LEN = 24;
/** Offset, le16. */
export const VIRTIO_VSOCK_HDR_TYPE = 28;
/** Offset, le16. */
export const VIRTIO_VSOCK_HDR_OP = 30;
/** Offset, le32. */
export const VIRTIO_VSOCK_HDR_FLAGS = 32;
/** Offset, le32: bytes that the sender has room for, in all. */
export const VIRTIO_VSOCK_HDR_BUF_ALLOC = 36;
/** Offset, le32: bytes that the sender has taken out of it, modulo 2^32. */
export const VIRTIO_VSOCK_HDR_FWD_CNT = 40;

/** `type`. virtio 1.3, 5.10.6 Device Operation. */
export const VIRTIO_VSOCK_TYPE_STREAM = 1;

/** `op`. virtio 1.3, 5.10.6 Device Operation: asks for a connection. */
export const VIRTIO_VSOCK_OP_REQUEST = 1;
/** virtio 1.3, 5.10.6 Device Operation: grants it. */
export const VIRTIO_VSOCK_OP_RESPONSE = 2;
/** virtio 1.3, 5.10.6 Device Operation: there is no such connection, or not any more. */
export const VIRTIO_VSOCK_OP_RST = 3;
/** virtio 1.3, 5.10.6 Device Operation: `flags` say what the sender does no more. */
export const VIRTIO_VSOCK_OP_SHUTDOWN = 4;
/** virtio 1.3, 5.10.6 Device Operation: payload. */
export const VIRTIO_VSOCK_OP_RW = 5;
/** virtio 1.3, 5.10.6 Device Operation: buf_alloc and fwd_cnt alone. */
export const VIRTIO_VSOCK_OP_CREDIT_UPDATE = 6;
/** virtio 1.3, 5.10.6 Device Operation: asks for a CREDIT_UPDATE. */
export const VIRTIO_VSOCK_OP_CREDIT_REQUEST = 7;

/** `flags` of SHUTDOWN, masks. virtio 1.3, 5.10.6: the sender will not receive any more. */
export const VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE = 1;
/** virtio 1.3, 5.10.6: the sender will not send any more. */
export const VIRTIO_VSOCK_SHUTDOWN_F_SEND = 2;
/** Both: the sender is done with the connection. Linux: SHUTDOWN_MASK. */
export const VIRTIO_VSOCK_SHUTDOWN_BOTH = 3;

/** Bytes of `struct virtio_vsock_event`: le32 id. virtio 1.3, 5.10.6.7 Device Events. */
export const VIRTIO_VSOCK_EVENT_BYTES = 4;
/** virtio 1.3, 5.10.6.7 Device Events: all connections are gone, and the CID may be another. */
export const VIRTIO_VSOCK_EVENT_TRANSPORT_RESET = 0;
