import { IOV_BYTES, IOV_LENGTH, SHADOW_BYTES, VQ_SHADOW } from "../src/spec/ring-state";
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

/** Writes pieces to a packed ring's indirect table, at linear `table`. */
export function writeTable(table: usize, delta: u64, iov: usize, outCount: u32, total: u32): void {
  for (let i: u32 = 0; i < total; i++) {
    const flags: u32 = i < outCount ? 0 : VIRTQ_DESC_F_WRITE << 16; // over an id of 0
    writeDesc(table, <u64>load<u32>(iov) + delta, load<u32>(iov, IOV_LENGTH), flags);
    table += VIRTQ_DESC_BYTES;
    iov += IOV_BYTES;
  }
}
