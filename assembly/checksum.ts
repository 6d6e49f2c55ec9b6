/**
 * Bytes after which the lanes are added up: none of them, 32 bits each, has reached 2^31 - 2^15 by
 * then, and two times two of them, as numbers of 64 bits, leave room below 2^64 for 2^47 more.
 */
const BLOCK_BYTES: u32 = 1 << 18;

/** The same sum, 2^33 at most: a word of any weight counts as one of the least. */
function halve(sum: u64): u64 {
  return (sum & 0xffff_ffff) + (sum >> 32);
}

/** The same sum in 16 bits, 0 for no other than 0: at most 2^33, 2^18, 2^16 + 2, 2^16 - 1. */
function fold(sum: u64): u32 {
  sum = halve(sum);
  sum = (sum & 0xffff) + (sum >> 16);
  const word = (<u32>sum & 0xffff) + (<u32>sum >> 16);
  return (word & 0xffff) + (word >> 16);
}

/** Checksum.sum */
export function checksumSum(address: usize, bytes: u32): u32 {
  let sum: u64 = 0;
  let left = bytes;
  while (left >= 16) {
    let lanes = i32x4.splat(0);
    const block = min(left, BLOCK_BYTES) & ~15;
    for (const end = address + block; address < end; address += 16) {
      lanes = i32x4.add(lanes, i32x4.extadd_pairwise_i16x8_u(v128.load(address)));
    }
    left -= block;
    sum = halve(sum) + <u64>i64x2.extract_lane(lanes, 0) + <u64>i64x2.extract_lane(lanes, 1);
  }
  for (; left >= 2; left -= 2, address += 2) sum += load<u16>(address);
  if (left > 0) sum += load<u8>(address);
  return fold(sum);
}
