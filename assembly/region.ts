import {
  IOV_BYTES,
  IOV_LENGTH,
  REGION_BYTES,
  REGION_GUEST,
  REGION_LINEAR,
  REGION_SIZE,
  VQ_REGION_COUNT,
  VQ_REGIONS,
  VRING_E_ADDRESS,
  VRING_E_IOV,
} from "../src/spec/ring-state";

/** Address of the region that holds guest address `addr`, or 0. */
export function findRegion(vq: usize, addr: u64): usize {
  let region = load<usize>(vq, VQ_REGIONS);
  for (let left = load<u32>(vq, VQ_REGION_COUNT); left > 0; left--) {
    if (addr - load<u64>(region, REGION_GUEST) < load<u64>(region, REGION_SIZE)) return region;
    region += REGION_BYTES;
  }
  return 0;
}

/** Whether `len` bytes (not 0) from `addr` lie in `region` as a whole. */
export function inRegion(region: usize, addr: u64, len: u32): bool {
  const offset = addr - load<u64>(region, REGION_GUEST);
  const size = load<u64>(region, REGION_SIZE);
  return offset < size && <u64>len <= size - offset;
}

/** Linear address of guest address `addr`, which lies in `region`. */
export function linear(region: usize, addr: u64): u32 {
  return load<u32>(region, REGION_LINEAR) + <u32>(addr - load<u64>(region, REGION_GUEST));
}

/** Whether the address after the last byte is past 2^64. `len` is not 0; reaching it is allowed. */
export function wraps(addr: u64, len: u32): bool {
  return <u64>(len - 1) > ~addr;
}

/**
 * Whether all of `len` bytes (not 0) from `addr` are mapped, by one region or by adjoining ones.
 */
export function isMapped(vq: usize, addr: u64, len: u32): bool {
  let left = <u64>len;
  while (left > 0) {
    const region = findRegion(vq, addr);
    if (region == 0) return false;
    const room = load<u64>(region, REGION_SIZE) - (addr - load<u64>(region, REGION_GUEST));
    if (left <= room) return true;
    left -= room;
    addr += room;
  }
  return true;
}

/**
 * Writes the pieces of a buffer that may span adjoining regions as iovecs from `iov` on, `capacity`
 * entries at most. Returns how many, or the error, negative. `len` is not 0 and does not wrap.
 */
export function pushPieces(vq: usize, iov: usize, capacity: u32, addr: u64, len: u32): i32 {
  let count: u32 = 0;
  while (len > 0) {
    const region = findRegion(vq, addr);
    if (region == 0) return -VRING_E_ADDRESS;
    if (count == capacity) return -VRING_E_IOV;
    const room = load<u64>(region, REGION_SIZE) - (addr - load<u64>(region, REGION_GUEST));
    const take = <u64>len < room ? len : <u32>room;
    store<u32>(iov, linear(region, addr));
    store<u32>(iov, take, IOV_LENGTH);
    iov += IOV_BYTES;
    addr += take;
    len -= take;
    count++;
  }
  return <i32>count;
}
