// What frames carry: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293 (TCP), RFC 768 (UDP). Numbers in
// frames are big-endian. Offsets and sizes in bytes.

/** A frame's type. Linux: ETH_P_IP. */
export const ETH_P_IP = 0x0800;
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
/** Offset, u16: fragments of one packet have the same. RFC 791, 3.1. */
export const IPV4_FRAGMENT = 6;
/** Of that: more fragments follow, or it is not the first. */
export const IPV4_FRAGMENT_MASK = 0x3fff;
/** Offset, u8: the protocol. RFC 791, 3.1. */
export const IPV4_PROTOCOL = 9;
/** Offset: two addresses. RFC 791, 3.1. */
export const IPV4_ADDRESSES = 12;

/** Bytes of the header; extension headers follow it. RFC 8200, 3. */
export const IPV6_HDR_BYTES = 40;
/** Offset, u8: the protocol, or the first extension header. RFC 8200, 3. */
export const IPV6_NEXT_HEADER = 6;
/** Offset: two addresses. RFC 8200, 3. */
export const IPV6_ADDRESSES = 8;
