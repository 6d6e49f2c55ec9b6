import * as ringState from "../spec/ring-state.js";
import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_IN_BYTES,
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_BYTES,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  IOV_BYTES,
  VQ_CHAINS,
  VQ_ERROR,
  VQ_ERROR_COUNTS,
  VQ_F_PACKED,
  VQ_FLAGS,
  VQ_IN_FLIGHT,
  VQ_IOV,
  VQ_LAST_AVAIL,
  VQ_USED_PUBLISHED,
  VRING_E_COUNT,
} from "../spec/ring-state.js";

/** The name of an error code (`VRING_E_…`), or the number when there is none. */
export function vringErrorName(code: number): string {
  return errorNames.get(code) ?? String(code);
}

const errorNames = new Map(
  Object.entries(ringState)
    .filter(([name]) => name.startsWith("VRING_E_") && name !== "VRING_E_COUNT")
    .map(([name, code]) => [code, name]),
);

/** Counts of errors by name, those of two times or places together. */
export function sumErrors(
  some: Record<string, number>,
  others: Record<string, number>,
): Record<string, number> {
  const sum = { ...some };
  for (const [name, count] of Object.entries(others)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}

/** What `addUsedN` needs of a chain. */
export interface UsedChain {
  readonly head: number;
  readonly outCount: number;
  readonly inCount: number;
  readonly inBytes: number;
}

/**
 * The host's view of a state block and the two tables it names: all private to our side, so they
 * may be read as often as needed. Addresses and lengths are in bytes, of the linear memory.
 */
export class RingTables {
  readonly #words: Uint32Array<ArrayBufferLike>;
  readonly #vq: number; // word indices from here on
  readonly #chains: number;
  readonly #iovs: number;

  /** `vq`: address of a state block whose table words are set. */
  constructor(memory: WebAssembly.Memory, vq: number) {
    this.#words = new Uint32Array(memory.buffer);
    this.#vq = vq >>> 2;
    this.#chains = this.word(VQ_CHAINS) >>> 2;
    this.#iovs = this.word(VQ_IOV) >>> 2;
  }

  /** A word of the state block, by its offset (`VQ_…`). */
  word(offset: number): number {
    return this.#words[this.#vq + (offset >>> 2)] as number;
  }

  /** Sets one, for what is done outside the ring's own functions. */
  setWord(offset: number, value: number): void {
    this.#words[this.#vq + (offset >>> 2)] = value;
  }

  /** The refusal that stands, or 0. */
  get error(): number {
    return this.word(VQ_ERROR);
  }

  /** Chains handed over and not yet back. */
  get inFlight(): number {
    return this.word(VQ_IN_FLIGHT);
  }

  /** Errors so far, of all kinds; wraps. */
  get errorTotal(): number {
    return this.word(VQ_ERROR_COUNTS);
  }

  /** Where a device's ring goes on: what `DeviceRing.start` takes. Nothing must be staged. */
  get position(): number {
    const avail = this.word(VQ_LAST_AVAIL);
    const isPacked = (this.word(VQ_FLAGS) & VQ_F_PACKED) !== 0;
    return isPacked ? avail + this.word(VQ_USED_PUBLISHED) * 0x10000 : avail;
  }

  /** How often each error happened, by name; those that never did are left out. */
  errorCounts(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (let code = 1; code < VRING_E_COUNT; code++) {
      const count = this.word(VQ_ERROR_COUNTS + code * 4);
      if (count > 0) counts[vringErrorName(code)] = count;
    }
    return counts;
  }

  /** Adds one to the count of `code`, for checks made outside the ring's own functions. */
  countError(code: number): void {
    const total = this.#vq + (VQ_ERROR_COUNTS >>> 2);
    this.#words[total] = (this.#words[total] as number) + 1;
    this.#words[total + code] = (this.#words[total + code] as number) + 1;
  }

  #chain(chain: number, offset: number): number {
    return this.#words[this.#chains + chain * (CHAIN_BYTES >>> 2) + (offset >>> 2)] as number;
  }

  /** Head of chain record `chain`. */
  head(chain: number): number {
    return this.#chain(chain, CHAIN_HEAD);
  }

  /** First entry of the chain in the iovec table. */
  iovStart(chain: number): number {
    return this.#chain(chain, CHAIN_IOV_START);
  }

  /** Device-readable pieces of the chain. */
  outCount(chain: number): number {
    return this.#chain(chain, CHAIN_OUT_COUNT);
  }

  /** Device-writable pieces of the chain. */
  inCount(chain: number): number {
    return this.#chain(chain, CHAIN_IN_COUNT);
  }

  /** Device-readable bytes of the chain. */
  outBytes(chain: number): number {
    return this.#chain(chain, CHAIN_OUT_BYTES);
  }

  /** Device-writable bytes of the chain. */
  inBytes(chain: number): number {
    return this.#chain(chain, CHAIN_IN_BYTES);
  }

  /** Bytes that the device says it wrote. */
  usedBytes(chain: number): number {
    return this.#chain(chain, CHAIN_USED_BYTES);
  }

  /** Bytes that `count` chains from `first` on gave, and that the device wrote. */
  sumBytes(first: number, count: number): number {
    let sum = 0;
    for (let i = first; i < first + count; i++) sum += this.outBytes(i) + this.usedBytes(i);
    return sum;
  }

  /** Sets what `addUsedN` gives back for the chain. */
  setUsedBytes(chain: number, bytes: number): void {
    const at = this.#chains + chain * (CHAIN_BYTES >>> 2) + (CHAIN_USED_BYTES >>> 2);
    this.#words[at] = bytes;
  }

  /** Copies record `from` to record `to`, for `addUsedN`; its pieces stay where they are. */
  moveChain(to: number, from: number): void {
    const words = CHAIN_BYTES >>> 2;
    const at = this.#chains + from * words;
    this.#words.copyWithin(this.#chains + to * words, at, at + words);
  }

  /** Writes a record for `addUsedN`; its pieces are entries `iovStart` … of the iovec table. */
  setUsed(chain: number, iovStart: number, { head, outCount, inCount, inBytes }: UsedChain): void {
    this.setChain(chain, iovStart, outCount, inCount);
    const at = this.#chains + chain * (CHAIN_BYTES >>> 2);
    this.#words[at + (CHAIN_HEAD >>> 2)] = head;
    this.#words[at + (CHAIN_IN_BYTES >>> 2)] = inBytes;
  }

  /** Sets the device-readable bytes of a chain that was popped. */
  setOutBytes(chain: number, bytes: number): void {
    this.#words[this.#chains + chain * (CHAIN_BYTES >>> 2) + (CHAIN_OUT_BYTES >>> 2)] = bytes;
  }

  /** Describes a chain for `addBufs`: its pieces are entries `iovStart` … of the iovec table. */
  setChain(chain: number, iovStart: number, outCount: number, inCount: number): void {
    const at = this.#chains + chain * (CHAIN_BYTES >>> 2);
    this.#words[at + (CHAIN_IOV_START >>> 2)] = iovStart;
    this.#words[at + (CHAIN_OUT_COUNT >>> 2)] = outCount;
    this.#words[at + (CHAIN_IN_COUNT >>> 2)] = inCount;
  }

  /** Linear address of an entry of the iovec table. */
  iovAddress(iov: number): number {
    return this.#words[this.#iovs + iov * (IOV_BYTES >>> 2)] as number;
  }

  /** Length in bytes of an entry of the iovec table. */
  iovLength(iov: number): number {
    return this.#words[this.#iovs + iov * (IOV_BYTES >>> 2) + 1] as number;
  }

  /** Sets an entry of the iovec table. */
  setIov(iov: number, address: number, lengthBytes: number): void {
    this.#words[this.#iovs + iov * (IOV_BYTES >>> 2)] = address;
    this.#words[this.#iovs + iov * (IOV_BYTES >>> 2) + 1] = lengthBytes;
  }
}
