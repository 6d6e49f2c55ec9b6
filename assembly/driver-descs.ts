import {
  IOV_BYTES,
  IOV_LENGTH,
  SHADOW_BYTES,
  SHADOW_COUNT,
  SHADOW_IN_BYTES,
  SHADOW_NEXT,
  VQ_BATCH_BYTES,
  VQ_BATCH_LEFT,
  VQ_F_INDIRECT,
  VQ_FLAGS,
  VQ_FREE_HEAD,
  VQ_INDIRECT,
  VQ_INDIRECT_CAPACITY,
  VQ_NUM,
  VQ_NUM_FREE,
  VQ_OLDEST,
  VQ_SHADOW,
} from "../src/spec/ring-state";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_FLAGS,
  VIRTQ_DESC_LEN,
} from "../src/spec/virtio-ring";

/** Address of the shadow entry of a descriptor, or of a packed ring's id. */
export function shadow(vq: usize, index: u32): usize {
  return load<usize>(vq, VQ_SHADOW) + <usize>index * SHADOW_BYTES;
}

/** Bytes of `count` pieces from `iov` on. */
export function bytesOf(iov: usize, count: u32): u64 {
  let sum: u64 = 0;
  for (; count > 0; count--) {
    sum += load<u32>(iov, IOV_LENGTH);
    iov += IOV_BYTES;
  }
  return sum;
}

/** Writes one descriptor of guest address `addr`; `tail`: its last four bytes. */
export function writeDesc(desc: usize, addr: u64, len: u32, tail: u32): void {
  store<u64>(desc, addr);
  store<u32>(desc, len, VIRTQ_DESC_LEN);
  store<u32>(desc, tail, VIRTQ_DESC_FLAGS);
}

/** Writes pieces to a packed ring's indirect table, at linear `table`; ids are 0. */
export function writeTable(table: usize, delta: u64, iov: usize, outCount: u32, total: u32): void {
  for (let i: u32 = 0; i < total; i++) {
    const flags: u64 = i < outCount ? 0 : VIRTQ_DESC_F_WRITE;
    store<u64>(table, <u64>load<u32>(iov) + delta);
    store<u64>(table, <u64>load<u32>(iov, IOV_LENGTH) | (flags << 48), VIRTQ_DESC_LEN);
    table += VIRTQ_DESC_BYTES;
    iov += IOV_BYTES;
  }
}

/** Empties the shadow table: the free list is 0, 1, 2 …, its last link 0, and no chain starts. */
export function resetShadow(vq: usize): void {
  const num = load<u32>(vq, VQ_NUM);
  let entry = load<usize>(vq, VQ_SHADOW);
  for (let i: u32 = 0; i < num; i++) {
    store<u16>(entry, <u16>(i + 1 < num ? i + 1 : 0), SHADOW_NEXT);
    store<u16>(entry, 0, SHADOW_COUNT);
    store<u32>(entry, 0, SHADOW_IN_BYTES);
    entry += SHADOW_BYTES;
  }
  store<u32>(vq, 0, VQ_FREE_HEAD);
  store<u32>(vq, num, VQ_NUM_FREE);
  store<u32>(vq, 0, VQ_OLDEST);
  store<u32>(vq, 0, VQ_BATCH_LEFT);
  store<u32>(vq, 0, VQ_BATCH_BYTES);
}

/** Pieces of the longest chain that goes into an indirect table; 0 when none does. */
export function tableCapacity(vq: usize): u32 {
  const isOn = load<u32>(vq, VQ_INDIRECT) != 0 && load<u32>(vq, VQ_FLAGS) & VQ_F_INDIRECT;
  return isOn ? load<u32>(vq, VQ_INDIRECT_CAPACITY) : 0;
}
