/** Bytes after which the lanes are added up: none of their 32 bits can run over before. */
const BLOCK_BYTES: u32 = 1 << 18;

/** The sum of 16-bit words, folded to one of 16 bits; 0 for no other sum than 0. */
function fold(sum: u64): u32 {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return <u32>sum;
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
    sum += <u64>(<u32>i32x4.extract_lane(lanes, 0)) + <u64>(<u32>i32x4.extract_lane(lanes, 1));
    sum += <u64>(<u32>i32x4.extract_lane(lanes, 2)) + <u64>(<u32>i32x4.extract_lane(lanes, 3));
  }
  for (; left >= 2; left -= 2, address += 2) sum += load<u16>(address);
  if (left > 0) sum += load<u8>(address);
  return fold(sum);
}
