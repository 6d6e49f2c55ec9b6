// Follows one descriptor chain as Linux's vhost does, on the device's side: the policy "linux" of
// `DeviceRing.getDescs`. Each descriptor is copied once; what was copied is checked and used.

import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_IN_BYTES,
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_BYTES,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  INDIRECT_ENTRIES_MAX,
  IOV_BYTES,
  IOV_LENGTH,
  REGION_BYTES,
  REGION_GUEST,
  REGION_LINEAR,
  REGION_SIZE,
  VQ_CHAINS,
  VQ_DESC,
  VQ_IOV,
  VQ_IOV_CAPACITY,
  VQ_LINUX_IOV_MAX,
  VQ_NUM,
  VQ_REGION_COUNT,
  VQ_REGIONS,
  VRING_E_ADDRESS,
  VRING_E_ADDRESS_WRAP,
  VRING_E_INDIRECT_ADDRESS,
  VRING_E_INDIRECT_LENGTH,
  VRING_E_INDIRECT_NESTED,
  VRING_E_IOV,
  VRING_E_LENGTH,
  VRING_E_LOOP,
  VRING_E_NEXT,
  VRING_E_ORDER,
  VRING_E_WALK,
} from "../spec/ring-state.js";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_FLAGS,
  VIRTQ_DESC_LEN,
  VIRTQ_DESC_NEXT,
} from "../spec/virtio-ring.js";

/** Every address of the guest is below it. */
const ADDRESS_END = 1n << 64n;
/** What a u32 of the chain table can't hold any more. */
const BYTES_END = 0x1_0000_0000;

/** A range of guest memory that lies in one region. */
interface Mapped {
  linear: number;
  bytes: number;
}

interface Desc {
  addr: bigint;
  len: number;
  flags: number;
  next: number;
}

/**
 * The walk over one chain by Linux's rules, for the TypeScript twin. Its fields are scratch: they
 * say what the last `follow` found. Worker thread; never throws.
 */
export class TsLinuxChain {
  /** Descriptors of the chain that were read, tables' included. */
  read = 0;
  /** Whether the error is that of a table. */
  isTable = false;
  /** Entries of the iovec table that hold pieces: the chain's, and those before them. */
  iovEnd = 0;

  private iovStart = 0;
  private outCount = 0;
  private inCount = 0;
  private outBytes = 0;
  private inBytes = 0;

  private readonly vq: number;
  private readonly view: DataView;
  /** A copy of a table's entry, which may lie in two regions. */
  private readonly entry = new DataView(new ArrayBuffer(VIRTQ_DESC_BYTES));

  /** Over `memory`, which does not grow; `vq` is the address of a device's state block. */
  constructor(memory: WebAssembly.Memory, vq: number) {
    this.vq = vq;
    this.view = new DataView(memory.buffer);
  }

  /**
   * Follows the chain at `head`, which is below VQ_NUM; its pieces go to the iovec table from entry
   * `iovStart` on. Side effects: the iovec table and the fields. @returns 0, or the code
   * (VRING_E_…, positive) of what Linux refuses. Linux: vhost_get_vq_desc().
   */
  follow(head: number, iovStart: number): number {
    const num = this.word(VQ_NUM);
    const table = this.word(VQ_DESC);
    this.iovStart = this.iovEnd = iovStart;
    this.outCount = this.inCount = this.outBytes = this.inBytes = this.read = 0;
    this.isTable = false;
    let next = head;
    for (let followed = 0; ; followed++) {
      if (next >= num) return VRING_E_NEXT;
      if (followed === num) return VRING_E_LOOP;
      if (this.isTooLong()) return VRING_E_WALK;
      const desc = readDesc(this.view, table + next * VIRTQ_DESC_BYTES);
      this.read++;
      this.isTable = (desc.flags & VIRTQ_DESC_F_INDIRECT) !== 0;
      const code = this.isTable ? this.table(desc) : this.buffer(desc);
      if (code !== 0) return code;
      this.isTable = false;
      if ((desc.flags & VIRTQ_DESC_F_NEXT) === 0) return 0;
      next = desc.next;
    }
  }

  /** Writes what the last `follow` found, which was good, to record `index` of the chain table. */
  record(index: number, head: number): void {
    const at = this.word(VQ_CHAINS) + index * CHAIN_BYTES;
    this.view.setUint32(at + CHAIN_HEAD, head, true);
    this.view.setUint32(at + CHAIN_IOV_START, this.iovStart, true);
    this.view.setUint32(at + CHAIN_OUT_COUNT, this.outCount, true);
    this.view.setUint32(at + CHAIN_IN_COUNT, this.inCount, true);
    this.view.setUint32(at + CHAIN_OUT_BYTES, this.outBytes, true);
    this.view.setUint32(at + CHAIN_IN_BYTES, this.inBytes, true);
    this.view.setUint32(at + CHAIN_USED_BYTES, 0, true);
  }

  private word(offset: number): number {
    return this.view.getUint32(this.vq + offset, true);
  }

  private isTooLong(): boolean {
    return this.read === this.word(VQ_NUM) + INDIRECT_ENTRIES_MAX;
  }

  /** Reads a table's entries in their order, whatever their `next`. Linux: get_indirect(). */
  private table({ addr, len }: Desc): number {
    const entries = len / VIRTQ_DESC_BYTES;
    if (len === 0 || !Number.isInteger(entries) || entries > INDIRECT_ENTRIES_MAX) {
      return VRING_E_INDIRECT_LENGTH;
    }
    if (addr + BigInt(len) > ADDRESS_END) return VRING_E_ADDRESS_WRAP;
    if (!this.isMapped(addr, len)) return VRING_E_INDIRECT_ADDRESS;
    for (let index = 0; index < entries; index++) {
      if (this.isTooLong()) return VRING_E_WALK;
      this.copyEntry(addr + BigInt(index * VIRTQ_DESC_BYTES));
      const desc = readDesc(this.entry, 0);
      this.read++;
      if ((desc.flags & VIRTQ_DESC_F_INDIRECT) !== 0) return VRING_E_INDIRECT_NESTED;
      const code = this.buffer(desc);
      if (code !== 0) return code;
      if ((desc.flags & VIRTQ_DESC_F_NEXT) === 0) return 0;
    }
    return VRING_E_LOOP;
  }

  /** Takes one buffer in. What counts for the order is pieces: of length 0 there are none. */
  private buffer({ addr, len, flags }: Desc): number {
    const isWritable = (flags & VIRTQ_DESC_F_WRITE) !== 0;
    const bytes = (isWritable ? this.inBytes : this.outBytes) + len;
    if (len > 0 && addr + BigInt(len) > ADDRESS_END) return VRING_E_ADDRESS_WRAP;
    if (len > 0 && bytes >= BYTES_END) return VRING_E_LENGTH;
    const before = this.iovEnd;
    const code = this.pieces(addr, len);
    if (code !== 0) return code;
    const count = this.iovEnd - before;
    if (isWritable) {
      this.inBytes = bytes;
      this.inCount += count;
      return 0;
    }
    if (this.inCount > 0) return VRING_E_ORDER;
    this.outBytes = bytes;
    this.outCount += count;
    return 0;
  }

  /** A piece for each region that a range meets. Linux: translate_desc(). */
  private pieces(addr: bigint, len: number): number {
    const end = Math.min(this.iovStart + VQ_LINUX_IOV_MAX, this.word(VQ_IOV_CAPACITY));
    for (let left = len; left > 0; ) {
      const found = this.find(addr, left);
      if (found === undefined) return VRING_E_ADDRESS;
      if (this.iovEnd >= end) return VRING_E_IOV;
      const at = this.word(VQ_IOV) + this.iovEnd * IOV_BYTES;
      this.view.setUint32(at, found.linear, true);
      this.view.setUint32(at + IOV_LENGTH, found.bytes, true);
      this.iovEnd++;
      left -= found.bytes;
      addr += BigInt(found.bytes);
    }
    return 0;
  }

  private isMapped(addr: bigint, len: number): boolean {
    for (let left = len; left > 0; ) {
      const found = this.find(addr, left);
      if (found === undefined) return false;
      left -= found.bytes;
      addr += BigInt(found.bytes);
    }
    return true;
  }

  /** The beginning of a range, as far as one region has it; undefined: none has its first byte. */
  private find(addr: bigint, len: number): Mapped | undefined {
    let region = this.word(VQ_REGIONS);
    for (let left = this.word(VQ_REGION_COUNT); left > 0; left--, region += REGION_BYTES) {
      const offset = addr - this.view.getBigUint64(region + REGION_GUEST, true);
      const room = this.view.getBigUint64(region + REGION_SIZE, true) - offset;
      if (offset < 0n || room <= 0n) continue;
      const linear = this.view.getUint32(region + REGION_LINEAR, true) + Number(offset);
      return { linear, bytes: room < BigInt(len) ? Number(room) : len };
    }
    return undefined;
  }

  /** Copies the entry at a guest address, all of which is mapped. */
  private copyEntry(addr: bigint): void {
    for (let done = 0; done < VIRTQ_DESC_BYTES; ) {
      const { linear, bytes } = this.find(addr + BigInt(done), VIRTQ_DESC_BYTES - done) as Mapped;
      for (let i = 0; i < bytes; i++) {
        this.entry.setUint8(done + i, this.view.getUint8(linear + i));
      }
      done += bytes;
    }
  }
}

function readDesc(view: DataView, at: number): Desc {
  return {
    addr: view.getBigUint64(at, true),
    len: view.getUint32(at + VIRTQ_DESC_LEN, true),
    flags: view.getUint16(at + VIRTQ_DESC_FLAGS, true),
    next: view.getUint16(at + VIRTQ_DESC_NEXT, true),
  };
}
