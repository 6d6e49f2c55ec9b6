// How network packets lie one behind another in memory of ours, for TypeScript and WebAssembly.

/** In front of each packet: its bytes, u32, in so many. */
export const NET_RECORD_PREFIX_BYTES = 8;
/** Packets are aligned to so many bytes. */
export const NET_RECORD_ALIGN = 8;

/** Bytes that a packet takes, with what is in front and behind. */
export function recordBytes(packetBytes: number): number {
  return (NET_RECORD_PREFIX_BYTES + packetBytes + NET_RECORD_ALIGN - 1) & ~(NET_RECORD_ALIGN - 1);
}
