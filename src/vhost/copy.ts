import { bufferOf, copyTo, isAlignedAlike } from "../memory/copy.js";
import { type CopyBytes, copyBytesOf } from "../ring/copy-bytes.js";

/** Up to so many bytes go by words: above, what `set` needs costs less than that. */
const FEW_BYTES = 128;
/** More bytes than these go by a call of the module's, where both sides are in its memory. */
const WITHIN_BYTES_MIN = 16;
/** From so many bytes on, memory that is not aligned alike goes by the C library's copy. */
const MANY_BYTES = 320;
const WORD_BYTES = 4;
const UNROLLED_BYTES = 16;

/** An array that is copied from or to, in the forms that the ways of copying need. */
export class Area {
  readonly array: Uint8Array;
  readonly view: DataView;
  /** Where it lies in its buffer: in that of a linear memory, its address. */
  readonly address: number;
  /** Of what lies in the memory of the chains: how bytes are copied there. */
  readonly copyBytes: CopyBytes | undefined;
  #buffer: Buffer | undefined;

  /** See `copyBytes`. */
  constructor(array: Uint8Array, copyBytes?: CopyBytes) {
    this.array = array;
    this.view = new DataView(array.buffer, array.byteOffset, array.byteLength);
    this.address = array.byteOffset;
    this.copyBytes = copyBytes;
  }

  get buffer(): Buffer {
    this.#buffer ??= bufferOf(this.array);
    return this.#buffer;
  }
}

/** Arrays that one side of a chain copies from and to in turn: a header, a packet. */
const AREAS = 4;

/** Those that were used last. */
export class Areas {
  readonly #areas: Area[] = [];
  readonly #memory: WebAssembly.Memory;
  #last: Area | undefined;
  #next = 0;

  /** `memory`: of the chains; what lies there is copied within it. */
  constructor(memory: WebAssembly.Memory) {
    this.#memory = memory;
  }

  /** An array's. */
  of(array: Uint8Array): Area {
    const last = this.#last;
    if (last !== undefined && last.array === array) return last;
    this.#last = this.#areas.find((area) => area.array === array) ?? this.#add(array);
    return this.#last;
  }

  #add(array: Uint8Array): Area {
    const isWithin = array.buffer === this.#memory.buffer;
    const area = new Area(array, isWithin ? copyBytesOf(this.#memory) : undefined);
    this.#areas[this.#next] = area;
    this.#next = (this.#next + 1) % AREAS;
    return area;
  }
}

function copyWords(from: DataView, at: number, to: DataView, toAt: number, bytes: number): void {
  let i = 0;
  for (; i + UNROLLED_BYTES <= bytes; i += UNROLLED_BYTES) {
    to.setUint32(toAt + i, from.getUint32(at + i, true), true);
    to.setUint32(toAt + i + 4, from.getUint32(at + i + 4, true), true);
    to.setUint32(toAt + i + 8, from.getUint32(at + i + 8, true), true);
    to.setUint32(toAt + i + 12, from.getUint32(at + i + 12, true), true);
  }
  for (; i + WORD_BYTES <= bytes; i += WORD_BYTES) {
    to.setUint32(toAt + i, from.getUint32(at + i, true), true);
  }
  for (; i < bytes; i++) to.setUint8(toAt + i, from.getUint8(at + i));
}

/**
 * Copies `length` bytes, or as many as `from` has, by whatever way is the fastest: measured with
 * `npm run bench -- net`. The other side may change them meanwhile. Throws RangeError when `to` has
 * no room for them.
 */
export function copy(from: Area, at: number, to: Area, toAt: number, length: number): void {
  const bytes = Math.min(length, from.array.length - at);
  const copyBytes = from.copyBytes ?? to.copyBytes;
  if (copyBytes && bytes > WITHIN_BYTES_MIN) {
    if (toAt + bytes > to.array.length) throw new RangeError("no room for what is copied");
    copyBytes(to.address + toAt, from.address + at, bytes);
    return;
  }
  if (bytes <= FEW_BYTES) {
    copyWords(from.view, at, to.view, toAt, bytes);
    return;
  }
  const part = from.array.subarray(at, at + bytes);
  if (bytes < MANY_BYTES || isAlignedAlike(to.array, toAt, part)) to.array.set(part, toAt);
  else copyTo(to.buffer, toAt, part);
}
