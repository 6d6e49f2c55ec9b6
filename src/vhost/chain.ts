import type { RingTables } from "../ring/tables.js";
import { Area, Areas, copy } from "./copy.js";

/** Pieces by number: a table of iovecs, or what was kept of one. */
export interface Pieces {
  /** Linear address of piece `iov`. */
  iovAddress(iov: number): number;
  /** Bytes of piece `iov`. */
  iovLength(iov: number): number;
}

const areas = new WeakMap<WebAssembly.Memory, Area>();

/** One for all chains of a memory, which does not grow. */
function areaOf(memory: WebAssembly.Memory): Area {
  const known = areas.get(memory);
  if (known && known.array.buffer === memory.buffer) return known;
  const area = new Area(new Uint8Array(memory.buffer));
  areas.set(memory, area);
  return area;
}

/**
 * One side of a chain, readable or writable: pieces of the owner's memory that count as one run of
 * bytes. All offsets are into that run. A flyweight: valid until the next burst is popped.
 */
export class ChainSide {
  /** Bytes of all pieces. */
  bytes = 0;
  /** How many pieces. */
  count = 0;
  readonly #area: Area;
  readonly #memory: Uint8Array<ArrayBufferLike>;
  readonly #view: DataView<ArrayBufferLike>;
  readonly #others: Areas;
  readonly #word = new Uint8Array(4);
  readonly #wordView = new DataView(this.#word.buffer);
  readonly #tables: Pieces;
  #start = 0;
  /** A piece, and the offset at which it begins: who reads on looks for the next from here. */
  #knownPiece = 0;
  #knownOffset = 0;

  constructor(memory: WebAssembly.Memory, tables: Pieces) {
    this.#area = areaOf(memory);
    this.#others = new Areas(memory);
    this.#memory = this.#area.array;
    this.#view = this.#area.view;
    this.#tables = tables;
  }

  /** Points it at `count` entries of the iovec table. */
  set(start: number, count: number, bytes: number): void {
    this.#start = start;
    this.#knownPiece = this.#knownOffset = 0;
    this.count = count;
    this.bytes = bytes;
  }

  /** Linear address of piece `index`. */
  address(index: number): number {
    return this.#tables.iovAddress(this.#start + index);
  }

  /** Bytes of piece `index`. */
  length(index: number): number {
    return this.#tables.iovLength(this.#start + index);
  }

  /** Calls `use(linear address, bytes)` for each part of [offset, offset + length), in order. */
  forEach(offset: number, length: number, use: (address: number, bytes: number) => void): void {
    const isBehind = offset >= this.#knownOffset;
    let begin = isBehind ? this.#knownOffset : 0;
    let at = offset;
    let left = Math.min(length, this.bytes - offset);
    for (let piece = isBehind ? this.#knownPiece : 0; left > 0 && piece < this.count; piece++) {
      const end = begin + this.length(piece);
      if (at < end) {
        if (at === offset) this.#know(piece, begin);
        const take = Math.min(end - at, left);
        use(this.address(piece) + at - begin, take);
        left -= take;
        at += take;
      }
      begin = end;
    }
  }

  #know(piece: number, offset: number): void {
    this.#knownPiece = piece;
    this.#knownOffset = offset;
  }

  /** The little-endian u32 at `offset`, which must lie within the chain. Reads the memory once. */
  u32(offset: number): number {
    if (offset + 4 <= this.length(0)) return this.#view.getUint32(this.address(0) + offset, true);
    this.read(offset, this.#word);
    return this.#wordView.getUint32(0, true);
  }

  /**
   * Copies from the chain into `target`, or `length` bytes of it from `at` on; returns the bytes
   * copied, fewer at the chain's end.
   */
  read(offset: number, target: Uint8Array, at = 0, length = target.length - at): number {
    const to = this.#others.of(target);
    if (this.count > 0 && offset + length <= this.length(0)) {
      copy(this.#area, this.address(0) + offset, to, at, length);
      return length;
    }
    let done = 0;
    this.forEach(offset, length, (address, bytes) => {
      copy(this.#area, address, to, at + done, bytes);
      done += bytes;
    });
    return done;
  }

  /**
   * Copies `source` into the chain, or `length` bytes of it from `at` on; returns the bytes copied,
   * fewer at the chain's end.
   */
  write(offset: number, source: Uint8Array, at = 0, length = source.length - at): number {
    const from = this.#others.of(source);
    if (this.count > 0 && offset + length <= this.length(0)) {
      copy(from, at, this.#area, this.address(0) + offset, length);
      return length;
    }
    let done = 0;
    this.forEach(offset, length, (address, bytes) => {
      copy(from, at + done, this.#area, address, bytes);
      done += bytes;
    });
    return done;
  }

  /** Writes the chain's last byte, where many devices have their status. None when it is empty. */
  writeLastByte(value: number): void {
    const last = this.count - 1;
    if (last >= 0) this.#memory[this.address(last) + this.length(last) - 1] = value;
  }

  /** Fills part of the chain with one byte value. */
  fill(offset: number, length: number, value: number): void {
    this.forEach(offset, length, (address, bytes) => {
      this.#memory.fill(value, address, address + bytes);
    });
  }

  /** Views of part of the chain, for `readv` and `writev`: no copy. */
  views(offset: number, length: number): Uint8Array<ArrayBufferLike>[] {
    const views: Uint8Array<ArrayBufferLike>[] = [];
    this.forEach(offset, length, (address, bytes) => {
      views.push(this.#memory.subarray(address, address + bytes));
    });
    return views;
  }
}

/** The first bytes of `memory` as one piece: `set(0, 1, bytes)` says how many. */
export function onePiece(memory: WebAssembly.Memory): ChainSide {
  const side: ChainSide = new ChainSide(memory, {
    iovAddress: () => 0,
    iovLength: () => side.bytes,
  });
  return side;
}

/** A popped chain. A flyweight: one object shows each chain of a burst in turn. */
export class Chain {
  /** What the driver gives us to read. */
  readonly readable: ChainSide;
  /** What the driver gives us to write. */
  readonly writable: ChainSide;
  /** Its record of the burst. */
  index = 0;
  readonly #tables: RingTables;

  constructor(memory: WebAssembly.Memory, tables: RingTables) {
    this.#tables = tables;
    this.readable = new ChainSide(memory, tables);
    this.writable = new ChainSide(memory, tables);
  }

  /** Shows record `index` of the last burst. */
  show(index: number): this {
    const tables = this.#tables;
    this.index = index;
    const start = tables.iovStart(index);
    const outCount = tables.outCount(index);
    this.readable.set(start, outCount, tables.outBytes(index));
    this.writable.set(start + outCount, tables.inCount(index), tables.inBytes(index));
    return this;
  }
}

/**
 * A chain that was taken out of its burst, to be answered later: what the rings need of it, and its
 * pieces, which stay as they were checked.
 */
export class HeldChain implements Pieces {
  /** What `DeviceRing.addUsed` takes. */
  readonly head: number;
  readonly outCount: number;
  readonly inCount: number;
  readonly inBytes: number;
  readonly readable: ChainSide;
  readonly writable: ChainSide;
  /** Whether the device has answered it. */
  isAnswered = false;
  /** Bytes that the device wrote, once it is answered. */
  written = 0;
  readonly #pieces: Uint32Array;

  /** Copies record `index` of the last burst. */
  constructor(memory: WebAssembly.Memory, tables: RingTables, index: number) {
    this.head = tables.head(index);
    this.outCount = tables.outCount(index);
    this.inCount = tables.inCount(index);
    this.inBytes = tables.inBytes(index);
    const start = tables.iovStart(index);
    const count = this.outCount + this.inCount;
    this.#pieces = new Uint32Array(2 * count);
    for (let i = 0; i < count; i++) {
      this.#pieces[2 * i] = tables.iovAddress(start + i);
      this.#pieces[2 * i + 1] = tables.iovLength(start + i);
    }
    this.readable = new ChainSide(memory, this);
    this.readable.set(0, this.outCount, tables.outBytes(index));
    this.writable = new ChainSide(memory, this);
    this.writable.set(this.outCount, this.inCount, this.inBytes);
  }

  iovAddress(iov: number): number {
    return this.#pieces[2 * iov] as number;
  }

  iovLength(iov: number): number {
    return this.#pieces[2 * iov + 1] as number;
  }
}
