// The lists that most are: one plain buffer, whole in the first region. Nothing here looks at the
// state of the ring: a run of them is as long as its caller allows.

import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_OUT_BYTES,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  IOV_BYTES,
  REGION_GUEST,
  REGION_LINEAR,
  REGION_SIZE,
  VQ_DESC,
  VQ_IOV,
  VQ_IOV_CAPACITY,
  VQ_NUM,
} from "../src/spec/ring-state";
import {
  PVIRTQ_DESC_ID,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
} from "../src/spec/virtio-ring";
import { firstRegion } from "./chain";
import { availFlags, descOf, loadFlags, moved } from "./position";

const KIND: u32 =
  VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED | VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_INDIRECT;

/**
 * Writes the records of such lists from position `first` on, whose flags are `firstFlags`, to
 * `chain` and after it, and their pieces from iovec `iovStart` on. Stops before the first that is
 * not such a one (its record holds nothing) and after `limit`, which is not 0. Returns how many.
 */
export function takePlain(
  vq: usize,
  chain: usize,
  iovStart: u32,
  first: u32,
  firstFlags: u32,
  limit: u32,
): u32 {
  const region = firstRegion(vq);
  const iovEnd = min(load<u32>(vq, VQ_IOV_CAPACITY), iovStart + limit);
  if (region == 0) return 0;
  const num = load<u32>(vq, VQ_NUM);
  const ring = load<usize>(vq, VQ_DESC);
  const iovs = load<usize>(vq, VQ_IOV);
  const guest = load<u64>(region, REGION_GUEST);
  const size = load<u64>(region, REGION_SIZE);
  const linear = load<u32>(region, REGION_LINEAR);
  let at = first;
  let iov = iovStart;
  let desc = descOf(ring, at);
  let flags = firstFlags;
  while (iov < iovEnd) {
    if ((flags & KIND) != availFlags(at)) break;
    const offset = load<u64>(desc) - guest;
    const len = load<u32>(desc, VIRTQ_DESC_LEN);
    if (len == 0 || offset >= size || <u64>len > size - offset) break;
    const id = load<u16>(desc, PVIRTQ_DESC_ID);
    store<u64>(iovs + <usize>iov * IOV_BYTES, <u64>(linear + <u32>offset) | ((<u64>len) << 32));
    // Two words at once, each pair: HEAD and IOV_START, OUT_ and IN_COUNT, OUT_ and IN_BYTES.
    const half = (<u64>(flags & VIRTQ_DESC_F_WRITE)) << 4;
    store<u64>(chain, <u64>id | (1 << 16) | ((<u64>iov) << 32), CHAIN_HEAD);
    store<u64>(chain, (<u64>1) << half, CHAIN_OUT_COUNT);
    store<u64>(chain, (<u64>len) << half, CHAIN_OUT_BYTES);
    store<u32>(chain, 0, CHAIN_USED_BYTES);
    chain += CHAIN_BYTES;
    iov++;
    if (iov == iovEnd) break;
    at = moved(at, 1, num);
    desc = descOf(ring, at);
    flags = loadFlags(desc);
  }
  return iov - iovStart;
}
