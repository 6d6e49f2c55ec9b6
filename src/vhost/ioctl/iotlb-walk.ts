import {
  INDIRECT_ENTRIES_MAX,
  VQ_LINUX_IOV_MAX,
  VRING_E_ADDRESS,
  VRING_E_INDIRECT_ADDRESS,
  VRING_E_INDIRECT_LENGTH,
  VRING_E_INDIRECT_NESTED,
  VRING_E_LENGTH,
  VRING_E_LOOP,
  VRING_E_NEXT,
  VRING_E_ORDER,
  VRING_E_WALK,
} from "../../spec/ring-state.js";
import { VHOST_ACCESS_RO, VHOST_ACCESS_WO } from "../../spec/vhost-iotlb.js";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_FLAGS,
  VIRTQ_DESC_LEN,
  VIRTQ_DESC_NEXT,
} from "../../spec/virtio-ring.js";
import type { IotlbSpace, Piece, Stop } from "./iotlb-space.js";

/** Lengths are u32. */
const BYTES_END = 2 ** 32;
/** Bytes of a table that are read together: most tables are not as long as they say. */
const TABLE_PART_BYTES = 256 * VIRTQ_DESC_BYTES;

/** A chain that was followed to its end: all of it is known, mapped, and as it was checked. */
export interface WalkedChain {
  /** Readable pieces. */
  readonly out: readonly Piece[];
  readonly outBytes: number;
  /** Writable pieces. */
  readonly in: readonly Piece[];
  readonly inBytes: number;
  /** Descriptors that were read. */
  readonly readCount: number;
}

/** One chain, as far as it was followed. */
class Walk implements WalkedChain {
  out: Piece[] = [];
  outBytes = 0;
  in: Piece[] = [];
  inBytes = 0;
  readCount = 0;
  readonly #space: IotlbSpace;
  readonly #readMax: number;

  constructor(space: IotlbSpace, readMax: number) {
    this.#space = space;
    this.#readMax = readMax;
  }

  /** One more is read. */
  count(): Stop | undefined {
    return this.readCount++ === this.#readMax ? { code: VRING_E_WALK } : undefined;
  }

  /** The buffer of a descriptor is part of it; of none with bytes, where it is is not looked at. */
  add(desc: DataView, at: number): Stop | undefined {
    const len = desc.getUint32(at + VIRTQ_DESC_LEN, true);
    const isWritable = (desc.getUint16(at + VIRTQ_DESC_FLAGS, true) & VIRTQ_DESC_F_WRITE) !== 0;
    const side = isWritable ? this.in : this.out;
    const before = side.length;
    const stop = len === 0 ? undefined : this.#push(side, desc.getBigUint64(at, true), len);
    if (stop) return stop;
    if (!isWritable && this.in.length > 0) return { code: VRING_E_ORDER };
    if (side.length === before) return undefined;
    if (isWritable) this.inBytes += len;
    else this.outBytes += len;
    return Math.max(this.inBytes, this.outBytes) < BYTES_END ? undefined : { code: VRING_E_LENGTH };
  }

  #push(side: Piece[], addr: bigint, len: number): Stop | undefined {
    const perm = side === this.in ? VHOST_ACCESS_WO : VHOST_ACCESS_RO;
    const { user } = this.#space;
    const before = side.length;
    const others = side === this.in ? this.out.length : this.in.length;
    const stop = this.#space.translate(addr, len, perm, side, VQ_LINUX_IOV_MAX - others);
    if (stop) return stop;
    for (let i = before; i < side.length; i++) {
      const { uaddr, bytes } = side[i] as Piece;
      if (!user.isMapped(uaddr, BigInt(bytes))) return { code: VRING_E_ADDRESS };
    }
    return undefined;
  }

  /** A table of descriptors is: they are taken in order, whatever `next` says. */
  addTable(addr: bigint, len: number): Stop | undefined {
    const count = len / VIRTQ_DESC_BYTES;
    if (!Number.isInteger(count) || count === 0) return { code: VRING_E_INDIRECT_LENGTH };
    const pieces: Piece[] = [];
    const stop = this.#space.translate(addr, len, VHOST_ACCESS_RO, pieces, VQ_LINUX_IOV_MAX);
    if (stop) return stop;
    if (count > INDIRECT_ENTRIES_MAX) return { code: VRING_E_INDIRECT_LENGTH };
    const table = new Table(this.#space, pieces, len);
    for (let i = 0; i < count; i++) {
      const over = this.count();
      if (over) return over;
      const at = table.read(i * VIRTQ_DESC_BYTES);
      if (at < 0) return { code: VRING_E_INDIRECT_ADDRESS };
      const flags = table.view.getUint16(at + VIRTQ_DESC_FLAGS, true);
      if (flags & VIRTQ_DESC_F_INDIRECT) return { code: VRING_E_INDIRECT_NESTED };
      const failed = this.add(table.view, at);
      if (failed) return failed;
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) return undefined;
    }
    return { code: VRING_E_LOOP };
  }
}

/** A table of descriptors, read piece by piece, each byte once. */
class Table {
  /** What was read last. */
  readonly view: DataView;
  readonly #space: IotlbSpace;
  readonly #pieces: readonly Piece[];
  readonly #tableBytes: number;
  readonly #part: Uint8Array<ArrayBuffer>;
  #start = 0;
  #end = 0;

  constructor(space: IotlbSpace, pieces: readonly Piece[], bytes: number) {
    this.#space = space;
    this.#pieces = pieces;
    this.#tableBytes = bytes;
    this.#part = new Uint8Array(Math.min(bytes, TABLE_PART_BYTES));
    this.view = new DataView(this.#part.buffer);
  }

  /** Where in `view` the descriptor at an offset is, or -1: it is not mapped. */
  read(offset: number): number {
    if (offset >= this.#end && !this.#readPart(offset)) return -1;
    return offset - this.#start;
  }

  /** As much as there is room for, or one descriptor alone where not all of that is mapped. */
  #readPart(offset: number): boolean {
    for (const most of [this.#part.length, VIRTQ_DESC_BYTES]) {
      const bytes = Math.min(most, this.#tableBytes - offset);
      if (!this.#space.read(this.#pieces, offset, this.#part.subarray(0, bytes))) continue;
      this.#start = offset;
      this.#end = offset + bytes;
      return true;
    }
    return false;
  }
}

/**
 * Follows the chain at `head`, below `num`, as Linux does where addresses are to be translated:
 * every descriptor is read once, and what is given back is what was checked. `read(index, into)`
 * copies a descriptor of the ring; false: it can't be. Nothing is changed, and nobody is asked.
 * Errors are those of the policy "linux". Linux: vhost_get_vq_desc(), get_indirect().
 */
export function walkChain(
  space: IotlbSpace,
  num: number,
  head: number,
  read: (index: number, into: DataView<ArrayBuffer>) => boolean,
): WalkedChain | Stop {
  const walk = new Walk(space, num + INDIRECT_ENTRIES_MAX);
  const desc = new DataView(new ArrayBuffer(VIRTQ_DESC_BYTES));
  let index = head;
  for (let followed = 0; ; followed++) {
    if (index >= num) return { code: VRING_E_NEXT };
    if (followed === num) return { code: VRING_E_LOOP };
    const over = walk.count();
    if (over) return over;
    if (!read(index, desc)) return { code: VRING_E_ADDRESS };
    const flags = desc.getUint16(VIRTQ_DESC_FLAGS, true);
    const isTable = (flags & VIRTQ_DESC_F_INDIRECT) !== 0;
    const stop = isTable
      ? walk.addTable(desc.getBigUint64(0, true), desc.getUint32(VIRTQ_DESC_LEN, true))
      : walk.add(desc, 0);
    if (stop) return isTable && stop.miss === undefined ? { ...stop, isInTable: true } : stop;
    if ((flags & VIRTQ_DESC_F_NEXT) === 0) return walk;
    index = desc.getUint16(VIRTQ_DESC_NEXT, true);
  }
}
