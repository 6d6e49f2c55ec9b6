import { NET_RECORD_ALIGN, NET_RECORD_PREFIX_BYTES } from "../src/spec/net-record";
import {
  CHAIN_BYTES,
  CHAIN_IOV_START,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  IOV_BYTES,
  IOV_LENGTH,
  VQ_CHAINS,
  VQ_IOV,
} from "../src/spec/ring-state";
import { NET_PACKET_BYTES_MIN, VIRTIO_NET_HDR_NUM_BUFFERS } from "../src/spec/virtio-net";

/** OUT_COUNT and IN_COUNT, one word, of a chain that is one readable or one writable piece. */
const READABLE: u64 = 1;
const WRITABLE: u64 = 1 << 32;

const ALIGN: u32 = NET_RECORD_ALIGN;

/** See src/ring/packets.ts. */
export function movePackets(
  vq: usize,
  first: u32,
  count: u32,
  at: usize,
  end: usize,
  isFromGuest: bool,
): u32 {
  let chain = load<usize>(vq, VQ_CHAINS) + <usize>first * CHAIN_BYTES;
  const kind = isFromGuest ? READABLE : WRITABLE;
  let done: u32 = 0;
  while (done < count && at < end) {
    const iov = load<usize>(vq, VQ_IOV) + load<u32>(chain, CHAIN_IOV_START) * IOV_BYTES;
    const packet = at + NET_RECORD_PREFIX_BYTES;
    const room = load<u32>(iov, IOV_LENGTH);
    const bytes = isFromGuest ? room : load<u32>(at);
    if (load<u64>(chain, CHAIN_OUT_COUNT) != kind) break;
    if (bytes > room || bytes > <u32>(end - packet) || bytes < <u32>NET_PACKET_BYTES_MIN) break;
    const buffer = load<usize>(iov);
    memory.copy(isFromGuest ? packet : buffer, isFromGuest ? buffer : packet, bytes);
    if (load<u16>(packet) != 0) break; // by our copy; whoever handles it reads it anew
    store<u32>(at, bytes);
    store<u64>(packet, 0);
    store<u32>(packet, 1 << 16, VIRTIO_NET_HDR_NUM_BUFFERS - 2);
    store<u32>(chain, isFromGuest ? 0 : bytes, CHAIN_USED_BYTES);
    chain += CHAIN_BYTES;
    at = packet + ((bytes + ALIGN - 1) & ~(ALIGN - 1));
    done++;
  }
  return done;
}
