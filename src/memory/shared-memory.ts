import { VhostError } from "../spec/errno.js";
import { Arena } from "./arena.js";

const PAGE_BYTES = 65536;
const HOST_BYTES_MIN = 2 * PAGE_BYTES;
const HOST_BYTES_MAX = 8 << 20;
/** A memory of less bytes is too small for any ring. */
export const MEMORY_BYTES_MIN = 1 << 20;

/**
 * Guest address of the first byte of the guest part. Above 4 GiB on purpose: an address that was
 * never translated can't be taken for one that was.
 */
export const GUEST_BASE = 0x1_0000_0000n;

/**
 * Who owns which byte of a process's memory:
 *
 *     0 … 64 KiB          nobody: address 0 is never valid
 *     64 KiB … guestStart host: state blocks and tables; no guest address reaches them
 *     guestStart … end    guest: rings, indirect tables, buffers; guest address GUEST_BASE and up
 *
 * Allocation is for the thread that made it; other threads get addresses.
 */
export class SharedMemory {
  readonly memory: WebAssembly.Memory;
  /** Our own state. */
  readonly host: Arena;
  /** What the other side may address. */
  readonly guest: Arena;
  /** Linear address of the guest part. */
  readonly guestStart: number;
  /** Bytes of the guest part. */
  readonly guestBytes: number;
  /** All of the memory. */
  readonly bytes: Uint8Array<ArrayBufferLike>;
  /** All of the memory, for numbers; little-endian must be asked for. */
  readonly view: DataView;

  private constructor(memory: WebAssembly.Memory) {
    const size = memory.buffer.byteLength;
    if (size < MEMORY_BYTES_MIN) {
      throw new VhostError("EINVAL", "a process with devices needs memoryBytes of 1 MiB or more", {
        size,
      });
    }
    const share = Math.floor(size / 8 / PAGE_BYTES) * PAGE_BYTES;
    const hostBytes = Math.min(Math.max(share, HOST_BYTES_MIN), HOST_BYTES_MAX);
    this.memory = memory;
    this.guestStart = PAGE_BYTES + hostBytes;
    this.guestBytes = size - this.guestStart;
    this.host = new Arena("rings and their state", PAGE_BYTES, this.guestStart);
    this.guest = new Arena("the guest's buffers", this.guestStart, size);
    this.bytes = new Uint8Array(memory.buffer);
    this.view = new DataView(memory.buffer);
  }

  static readonly #known = new WeakMap<WebAssembly.Memory, SharedMemory>();

  /** The one division of `memory` in this thread. Throws EINVAL when it is below 1 MiB. */
  static of(memory: WebAssembly.Memory): SharedMemory {
    let known = SharedMemory.#known.get(memory);
    if (!known) {
      known = new SharedMemory(memory);
      SharedMemory.#known.set(memory, known);
    }
    return known;
  }

  /** Guest address of a linear address in the guest part. */
  toGuest(address: number): bigint {
    return BigInt(address - this.guestStart) + GUEST_BASE;
  }

  /** Bytes of host memory, zeroed. Throws ENOMEM. */
  allocHost(bytes: number, align = 8): number {
    const address = this.host.alloc(bytes, align);
    this.bytes.fill(0, address, address + bytes);
    return address;
  }

  /** Bytes of guest memory, zeroed. Throws ENOMEM. */
  allocGuest(bytes: number, align = 16): number {
    const address = this.guest.alloc(bytes, align);
    this.bytes.fill(0, address, address + bytes);
    return address;
  }
}
