// Follows one descriptor chain of a split ring on the device's side: checks it and turns it into
// pieces of linear memory. Each descriptor is read once; what was read is checked and used, and
// never read again.

import {
  VQ_DESC,
  VQ_F_INDIRECT,
  VQ_FLAGS,
  VQ_IOV_CAPACITY,
  VQ_NUM,
  VRING_E_INDIRECT_ADDRESS,
  VRING_E_INDIRECT_INDEX,
  VRING_E_INDIRECT_NESTED,
  VRING_E_INDIRECT_NEXT,
  VRING_E_INDIRECT_UNNEGOTIATED,
  VRING_E_IOV,
  VRING_E_LOOP,
  VRING_E_NEXT,
} from "../spec/ring-state.js";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_FLAGS,
  VIRTQ_DESC_LEN,
} from "../spec/virtio-ring.js";
import { TsBuffers } from "./ts-buffers.js";

// Word indices: byte offsets of the layouts over four.
const NUM = VQ_NUM >>> 2;
const FLAGS = VQ_FLAGS >>> 2;
const DESC = VQ_DESC >>> 2;
const IOV_CAPACITY = VQ_IOV_CAPACITY >>> 2;
const DESC_WORDS = VIRTQ_DESC_BYTES >>> 2;
const DESC_LEN = VIRTQ_DESC_LEN >>> 2;
/** One word: flags in the lower half, `next` in the upper. */
const DESC_TAIL = VIRTQ_DESC_FLAGS >>> 2;

/** The walk over one descriptor chain, for `getDescs` of the split twin. Worker thread. */
export class TsChain extends TsBuffers {
  /**
   * Follows the chain at `head`, which is below VQ_NUM; its pieces go to the iovec table from entry
   * `iov` on. Side effects: the iovec table; the scratch fields; nothing in the state block.
   * @returns 0, or the code (VRING_E_…, positive) of the first check that failed.
   * virtio 1.3, 2.7.5 The Virtqueue Descriptor Table. Linux: vhost_get_vq_desc().
   */
  follow(head: number, iov: number): number {
    const { u32, w } = this;
    const num = u32[w + NUM];
    const table = u32[w + DESC] >>> 2;
    this.begin(iov);
    for (let index = head, followed = 0; ; followed++) {
      if (index >= num) return VRING_E_NEXT;
      if (followed >= num) return VRING_E_LOOP;
      this.read++;
      const desc = table + index * DESC_WORDS;
      const lo = u32[desc];
      const hi = u32[desc + 1];
      const len = u32[desc + DESC_LEN];
      const tail = u32[desc + DESC_TAIL];
      if ((tail & VIRTQ_DESC_F_INDIRECT) !== 0) return this.indirect(lo, hi, len, tail);
      const code = this.buffer(lo, hi, len, (tail & VIRTQ_DESC_F_WRITE) !== 0);
      if (code !== 0) return code;
      if ((tail & VIRTQ_DESC_F_NEXT) === 0) return 0;
      index = tail >>> 16;
    }
  }

  /** virtio 1.3, 2.7.5.3 Indirect Descriptors: one that names a table. Linux: get_indirect(). */
  private indirect(lo: number, hi: number, len: number, tail: number): number {
    if ((this.u32[this.w + FLAGS] & VQ_F_INDIRECT) === 0) return VRING_E_INDIRECT_UNNEGOTIATED;
    if ((tail & VIRTQ_DESC_F_NEXT) !== 0) return VRING_E_INDIRECT_NEXT;
    const code = this.checkTable(lo, hi, len);
    return code !== 0 ? code : this.table(lo, hi, len / VIRTQ_DESC_BYTES);
  }

  /** The entries of an indirect table that is mapped, though maybe in pieces. */
  private table(lo: number, hi: number, entries: number): number {
    const capacity = this.u32[this.w + IOV_CAPACITY];
    for (let index = 0, followed = 0; ; followed++) {
      if (index >= entries) return VRING_E_INDIRECT_INDEX;
      if (followed >= entries) return VRING_E_LOOP;
      if (followed >= capacity) return VRING_E_IOV;
      if (!this.readEntry(lo, hi, index)) return VRING_E_INDIRECT_ADDRESS;
      const { words, at } = this;
      const tail = words[at + DESC_TAIL];
      if ((tail & VIRTQ_DESC_F_INDIRECT) !== 0) return VRING_E_INDIRECT_NESTED;
      const write = (tail & VIRTQ_DESC_F_WRITE) !== 0;
      const code = this.buffer(words[at], words[at + 1], words[at + DESC_LEN], write);
      if (code !== 0) return code;
      if ((tail & VIRTQ_DESC_F_NEXT) === 0) return 0;
      index = tail >>> 16;
    }
  }
}
