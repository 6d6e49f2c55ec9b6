// What frames carry: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293 (TCP), RFC 768 (UDP). Numbers in
// frames are big-endian. Offsets and sizes in bytes.

/** A frame's type. Linux: ETH_P_IP. */
export const ETH_P_IP = 0x0800;
/** A frame's type: who has which address, asked the other way round. Linux: ETH_P_RARP. */
export const ETH_P_RARP = 0x8035;
/** Bytes of such a question about IPv4 on Ethernet. RFC 826, RFC 903. */
export const RARP_BYTES = 28;
/** What it is: a question. RFC 903. */
export const RARP_OP_REQUEST = 3;
/** A frame's type. Linux: ETH_P_IPV6. */
export const ETH_P_IPV6 = 0x86dd;
/** Protocol number. Linux: IPPROTO_TCP. */
export const IPPROTO_TCP = 6;
/** Protocol number. Linux: IPPROTO_UDP. */
export const IPPROTO_UDP = 17;

/** The least header; the first byte's low half says how many words it has. RFC 791, 3.1. */
export const IPV4_HDR_BYTES_MIN = 20;
/** The longest header. RFC 791, 3.1. */
export const IPV4_HDR_BYTES_MAX = 60;
/** Offset, u16: bytes of the packet, its header included. RFC 791, 3.1. */
export const IPV4_LENGTH = 2;
/** Offset, u16: another for each packet. RFC 791, 3.1. */
export const IPV4_ID = 4;
/** Offset, u16: fragments of one packet have the same. RFC 791, 3.1. */
export const IPV4_FRAGMENT = 6;
/** Of that: more fragments follow, or it is not the first. */
export const IPV4_FRAGMENT_MASK = 0x3fff;
/** Offset, u8: the protocol. RFC 791, 3.1. */
export const IPV4_PROTOCOL = 9;
/** Offset, u16: the header's checksum. RFC 791, 3.1. */
export const IPV4_CHECKSUM = 10;
/** Offset: two addresses. RFC 791, 3.1. */
export const IPV4_ADDRESSES = 12;

/** Bytes of the header; extension headers follow it. RFC 8200, 3. */
export const IPV6_HDR_BYTES = 40;
/** Offset, u16: bytes behind the header. RFC 8200, 3. */
export const IPV6_LENGTH = 4;
/** Offset, u8: the protocol, or the first extension header. RFC 8200, 3. */
export const IPV6_NEXT_HEADER = 6;
/** Offset: two addresses. RFC 8200, 3. */
export const IPV6_ADDRESSES = 8;
/** Next header: options for each hop; begins with the next one, and its length. RFC 8200, 4.3. */
export const IPPROTO_HOPOPTS = 0;
/** Next header: options for the destination; as the former. RFC 8200, 4.6. */
export const IPPROTO_DSTOPTS = 60;

/** The least header. RFC 9293, 3.1. */
export const TCP_HDR_BYTES_MIN = 20;
/** Offset, u32: number of the first byte of payload. RFC 9293, 3.1. */
export const TCP_SEQUENCE = 4;
/** Offset, u8: in the high half, how many words the header has. RFC 9293, 3.1. */
export const TCP_DATA_OFFSET = 12;
/** Offset, u8: TCP_… RFC 9293, 3.1. */
export const TCP_FLAGS = 13;
/** Flag: no more payload comes. */
export const TCP_FIN = 0x01;
/** Flag: what came is to be handed on. */
export const TCP_PSH = 0x08;
/** Flag: the window was reduced. RFC 3168, 6.1. */
export const TCP_CWR = 0x80;
/** Offset, u16. RFC 9293, 3.1. */
export const TCP_CHECKSUM = 16;

/** Bytes of the header. RFC 768. */
export const UDP_HDR_BYTES = 8;
/** Offset, u16: bytes of the datagram, its header included. RFC 768. */
export const UDP_LENGTH = 4;
/** Offset, u16; 0: there is none. RFC 768. */
export const UDP_CHECKSUM = 6;
