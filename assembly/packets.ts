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

/** Bytes of a cache line. */
const LINE_BYTES: u32 = 64;
/** Bytes that one load or store moves; no packet has less. */
const STEP_BYTES: u32 = 16;
/** Bytes up to which steps are cheaper than a call of memmove(). */
const STEPS_BYTES_MAX: u32 = 256;

function iovOf(vq: usize, chain: usize): usize {
  return load<usize>(vq, VQ_IOV) + load<u32>(chain, CHAIN_IOV_START) * IOV_BYTES;
}

/**
 * Reads of the first two cache lines of the packets from `first` on, up to one that asks for
 * something: these loads do not wait for one another, so that what another core has written is on
 * its way by the time it is copied. Returns a sum of what was read, below 2^48: who asks whether it
 * is keeps the loads from being left out.
 */
function touch(vq: usize, first: usize, end: usize): u64 {
  let sum: u64 = 0;
  for (let chain = first; chain < end; chain += CHAIN_BYTES) {
    const iov = iovOf(vq, chain);
    const bytes = load<u32>(iov, IOV_LENGTH);
    if (load<u64>(chain, CHAIN_OUT_COUNT) != READABLE || bytes < <u32>NET_PACKET_BYTES_MIN) break;
    const buffer = load<usize>(iov);
    sum += load<u8>(buffer + min(bytes - 1, LINE_BYTES));
    if (load<u16>(buffer) != 0) break;
  }
  return sum;
}

/** Copies a packet. */
function copyPacket(to: usize, from: usize, bytes: u32): void {
  if (bytes > STEPS_BYTES_MAX) {
    memory.copy(to, from, bytes);
    return;
  }
  const last = bytes - STEP_BYTES;
  for (let at: u32 = 0; at < last; at += STEP_BYTES) {
    v128.store(to + at, v128.load(from + at));
  }
  v128.store(to + last, v128.load(from + last));
}

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
  if (isFromGuest && touch(vq, chain, chain + <usize>count * CHAIN_BYTES) >> 48) return 0;
  while (done < count && at < end) {
    const iov = iovOf(vq, chain);
    const packet = at + NET_RECORD_PREFIX_BYTES;
    const room = load<u32>(iov, IOV_LENGTH);
    const bytes = isFromGuest ? room : load<u32>(at);
    if (load<u64>(chain, CHAIN_OUT_COUNT) != kind) break;
    if (bytes > room || bytes > <u32>(end - packet) || bytes < <u32>NET_PACKET_BYTES_MIN) break;
    const buffer = load<usize>(iov);
    if (isFromGuest && load<u16>(buffer) != 0) break; // a hint: no copy in vain
    copyPacket(isFromGuest ? packet : buffer, isFromGuest ? buffer : packet, bytes);
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
