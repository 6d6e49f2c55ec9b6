// Follows one descriptor chain as Linux's vhost does: the policy "linux" of DeviceRing.getDescs.

import {
  CHAIN_IN_BYTES,
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_BYTES,
  CHAIN_OUT_COUNT,
  INDIRECT_ENTRIES_MAX,
  IOV_BYTES,
  VQ_DESC,
  VQ_IOV,
  VQ_IOV_CAPACITY,
  VQ_LINUX_IOV_MAX,
  VQ_NUM,
  VRING_E_ADDRESS_WRAP,
  VRING_E_INDIRECT_ADDRESS,
  VRING_E_INDIRECT_LENGTH,
  VRING_E_INDIRECT_NESTED,
  VRING_E_LENGTH,
  VRING_E_LOOP,
  VRING_E_NEXT,
  VRING_E_ORDER,
  VRING_E_WALK,
} from "../src/spec/ring-state";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_FLAGS,
  VIRTQ_DESC_LEN,
} from "../src/spec/virtio-ring";
import { findRegion, inRegion, isMapped, linear, pushPieces, wraps } from "./region";

/** Beside a code of `followLinuxChain`: it was met at a table, or in one. */
export const IN_TABLE: u32 = 128;

/** As `followLinuxChain` answers. */
function outcome(walked: u32, code: u32): u32 {
  return (walked << 8) | code;
}

/** The eight bytes at guest address `addr`, all mapped, of one region or of two. */
function loadGuest(vq: usize, addr: u64): u64 {
  const region = findRegion(vq, addr);
  if (inRegion(region, addr, 8)) return load<u64>(<usize>linear(region, addr));
  let value: u64 = 0;
  for (let i: u64 = 0; i < 8; i++) {
    const byte = <usize>linear(findRegion(vq, addr + i), addr + i);
    value |= (<u64>load<u8>(byte)) << (i << 3);
  }
  return value;
}

/** Adds one buffer to the record at `chain`, and its pieces to the iovec table. 0, or the error. */
function addBuffer(vq: usize, chain: usize, addr: u64, len: u32, flags: u32): u32 {
  const isWritable = (flags & VIRTQ_DESC_F_WRITE) != 0;
  if (len != 0) {
    if (wraps(addr, len)) return VRING_E_ADDRESS_WRAP;
    const bytesAt = chain + (isWritable ? CHAIN_IN_BYTES : CHAIN_OUT_BYTES);
    const bytes = <u64>load<u32>(bytesAt) + len;
    if (bytes >> 32) return VRING_E_LENGTH;
    const start = load<u32>(chain, CHAIN_IOV_START);
    const count = load<u32>(chain, CHAIN_OUT_COUNT) + load<u32>(chain, CHAIN_IN_COUNT);
    const capacity = min(load<u32>(vq, VQ_IOV_CAPACITY) - start, <u32>VQ_LINUX_IOV_MAX);
    const iov = load<usize>(vq, VQ_IOV) + <usize>(start + count) * IOV_BYTES;
    const pieces = pushPieces(vq, iov, capacity - count, addr, len);
    if (pieces < 0) return -pieces;
    const countAt = chain + (isWritable ? CHAIN_IN_COUNT : CHAIN_OUT_COUNT);
    store<u32>(bytesAt, <u32>bytes);
    store<u32>(countAt, load<u32>(countAt) + pieces);
  }
  return !isWritable && load<u32>(chain, CHAIN_IN_COUNT) != 0 ? VRING_E_ORDER : 0;
}

/** Follows the table at guest address `addr`; `walked` of `walkMax` descriptors are read before. */
function followTable(vq: usize, chain: usize, addr: u64, len: u32, walked: u32, walkMax: u32): u32 {
  if (len == 0 || len % VIRTQ_DESC_BYTES != 0) return outcome(walked, VRING_E_INDIRECT_LENGTH);
  const entries = len / VIRTQ_DESC_BYTES;
  if (entries > <u32>INDIRECT_ENTRIES_MAX) return outcome(walked, VRING_E_INDIRECT_LENGTH);
  if (wraps(addr, len)) return outcome(walked, VRING_E_ADDRESS_WRAP);
  if (!isMapped(vq, addr, len)) return outcome(walked, VRING_E_INDIRECT_ADDRESS);
  for (let left = entries; left > 0; left--) {
    if (walked == walkMax) return outcome(walked, VRING_E_WALK);
    walked++;
    const bufferAddr = loadGuest(vq, addr);
    const rest = loadGuest(vq, addr + VIRTQ_DESC_LEN); // length, flags, `next`
    const flags = <u32>(rest >> 32);
    if (flags & VIRTQ_DESC_F_INDIRECT) return outcome(walked, VRING_E_INDIRECT_NESTED);
    const code = addBuffer(vq, chain, bufferAddr, <u32>rest, flags);
    if (code != 0) return outcome(walked, code);
    if ((flags & VIRTQ_DESC_F_NEXT) == 0) return outcome(walked, 0);
    addr += VIRTQ_DESC_BYTES; // whatever `next` says
  }
  return outcome(walked, VRING_E_LOOP);
}

/**
 * Follows the chain at `head` (below VQ_NUM): its pieces go to the iovec table from entry
 * `iovStart` on, its counts to the record at `chain`. Returns descriptors read × 256 + error code
 * (0: good, and only then the record holds) + IN_TABLE.
 */
export function followLinuxChain(vq: usize, chain: usize, iovStart: u32, head: u32): u32 {
  const num = load<u32>(vq, VQ_NUM);
  const walkMax = num + INDIRECT_ENTRIES_MAX;
  store<u32>(chain, iovStart, CHAIN_IOV_START);
  store<u32>(chain, 0, CHAIN_OUT_COUNT);
  store<u32>(chain, 0, CHAIN_IN_COUNT);
  store<u32>(chain, 0, CHAIN_OUT_BYTES);
  store<u32>(chain, 0, CHAIN_IN_BYTES);
  let index = head;
  let followed: u32 = 0;
  let walked: u32 = 0;
  for (;;) {
    if (index >= num) return outcome(walked, VRING_E_NEXT);
    if (followed == num) return outcome(walked, VRING_E_LOOP);
    followed++;
    if (walked == walkMax) return outcome(walked, VRING_E_WALK);
    walked++;
    const desc = load<usize>(vq, VQ_DESC) + <usize>index * VIRTQ_DESC_BYTES;
    const addr = load<u64>(desc);
    const len = load<u32>(desc, VIRTQ_DESC_LEN);
    const flags = load<u32>(desc, VIRTQ_DESC_FLAGS); // `next` is the upper half
    if (flags & VIRTQ_DESC_F_INDIRECT) {
      const far = followTable(vq, chain, addr, len, walked, walkMax);
      if (far & 0xff) return far | IN_TABLE;
      walked = far >> 8;
    } else {
      const code = addBuffer(vq, chain, addr, len, flags);
      if (code != 0) return outcome(walked, code);
    }
    if ((flags & VIRTQ_DESC_F_NEXT) == 0) break;
    index = flags >> 16;
  }
  return outcome(walked, 0);
}
