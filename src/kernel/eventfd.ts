import { VhostError } from "../spec/errno.js";
import { OpenFile } from "./files.js";

/** The counter goes no further. Linux: ULLONG_MAX - 1. */
const COUNT_MAX = 2n ** 64n - 2n;

/**
 * A counter that programs and devices wake each other by; it lies in shared memory, so that other
 * threads may look at it, while writes and their callbacks are the kernel's thread's. Linux:
 * eventfd_ctx, by eventfd(2) with EFD_NONBLOCK.
 */
export class EventFd extends OpenFile {
  /** u64: the counter. */
  readonly buffer: SharedArrayBuffer;
  readonly #count: BigUint64Array;
  readonly #waiters = new Set<() => void>();

  /** `initial`: 0 or more. */
  constructor(initial = 0n) {
    super(() => {});
    this.buffer = new SharedArrayBuffer(8);
    this.#count = new BigUint64Array(this.buffer);
    Atomics.store(this.#count, 0, initial);
  }

  /** The counter; nothing is taken. */
  get value(): bigint {
    return Atomics.load(this.#count, 0);
  }

  /** Calls `waiter` at every write, of 0 too, in the writer's context. Linux: poll_wait(). */
  onWrite(waiter: () => void): void {
    this.#waiters.add(waiter);
  }

  /** Not any more. */
  offWrite(waiter: () => void): void {
    this.#waiters.delete(waiter);
  }

  /** write(2). EINVAL: 2^64 - 1 or more, below 0; EAGAIN: the counter would go past its end. */
  write(value: bigint): void {
    if (value < 0n || value > COUNT_MAX) {
      throw new VhostError("EINVAL", "an eventfd takes 0 to 2^64 - 2", { value });
    }
    if (this.value + value > COUNT_MAX) throw new VhostError("EAGAIN", "the eventfd is full");
    this.#add(value);
  }

  /** One more, as the kernel does it: at the end of the count it stays. Linux: eventfd_signal(). */
  signal(): void {
    this.#add(this.value < COUNT_MAX ? 1n : 0n);
  }

  #add(value: bigint): void {
    Atomics.add(this.#count, 0, value);
    for (const waiter of [...this.#waiters]) waiter();
  }

  /** read(2): takes the whole counter. EAGAIN: it is 0. */
  read(): bigint {
    const value = Atomics.exchange(this.#count, 0, 0n);
    if (value === 0n) throw new VhostError("EAGAIN", "the eventfd has nothing to read");
    return value;
  }
}
