import { VhostError } from "../spec/errno.js";

/** Queues that one device may have: a bit for each. */
export const DOORBELL_QUEUES_MAX = 32;

// One writer a bit: set by one side, taken by the other. Int32 indices.
const CONTROL = 0;
const KICKS = 1;
const CALLS = 2;
const CALL_SEQUENCE = 3;
/** How often a flush was asked for, and the number of the one that was done last. */
const FLUSH_ASKED = 4;
const FLUSHED = 5;
/** From here on a word for each queue: what its last kick said. Written by the driver. */
const KICK_DATA = 6;
const BYTES = (KICK_DATA + DOORBELL_QUEUES_MAX) * 4;

/**
 * The notifications between a driver and a worker: a pending bit for each queue and direction, in
 * memory of its own that neither the owner nor a guest can write. Usable from any thread. Bits
 * stand in for eventfds: setting one twice is setting it once.
 */
export class Doorbell {
  /** Send this to the other thread and make a `Doorbell` of it there. */
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(BYTES)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
  }

  /** Throws EINVAL when a device has more queues than there are bits. */
  static checkQueueCount(queueCount: number): void {
    if (Number.isInteger(queueCount) && queueCount >= 1 && queueCount <= DOORBELL_QUEUES_MAX)
      return;
    throw new VhostError("EINVAL", `a device has 1 to ${DOORBELL_QUEUES_MAX} queues`, {
      queueCount,
    });
  }

  /**
   * Driver side: entries of `queue` are available. `data`, with VIRTIO_F_NOTIFICATION_DATA: up to
   * where they are, a u16. The worker must be woken after it.
   */
  kick(queue: number, data = 0): void {
    Atomics.store(this.#words, KICK_DATA + queue, data); // before the bit: `takeKicks`, `kickData`
    Atomics.or(this.#words, KICKS, 1 << queue);
  }

  /** Worker: what the last kick of `queue` said. */
  kickData(queue: number): number {
    return Atomics.load(this.#words, KICK_DATA + queue);
  }

  /** Worker: takes all kicks, a bit for each queue. */
  takeKicks(): number {
    return Atomics.load(this.#words, KICKS) === 0 ? 0 : Atomics.exchange(this.#words, KICKS, 0);
  }

  /** Owner side: a control message waits. The worker must be woken after it. */
  ringControl(): void {
    Atomics.store(this.#words, CONTROL, 1);
  }

  /** Worker: whether a control message waits, which it then must take. */
  takeControl(): boolean {
    return (
      Atomics.load(this.#words, CONTROL) !== 0 && Atomics.exchange(this.#words, CONTROL, 0) !== 0
    );
  }

  /** Worker: whether a control message waits. Nothing is taken. */
  isControlPending(): boolean {
    return Atomics.load(this.#words, CONTROL) !== 0;
  }

  /** Worker: whether a kick waits for it. Nothing is taken. */
  hasKicks(): boolean {
    return Atomics.load(this.#words, KICKS) !== 0;
  }

  /** Owner side: asks for a flush; its number. The worker must be woken after it. */
  askFlush(): number {
    return Atomics.add(this.#words, FLUSH_ASKED, 1) + 1;
  }

  /** Worker, before it takes the kicks: the flush that was asked for last, if it is not done. */
  get pendingFlush(): number | undefined {
    const asked = Atomics.load(this.#words, FLUSH_ASKED);
    return this.isFlushed(asked) ? undefined : asked;
  }

  /** Worker: what was pending when `pendingFlush` was read has had a turn. */
  flushed(flush: number): void {
    Atomics.store(this.#words, FLUSHED, flush);
    this.ringDriver();
  }

  /** Owner side: whether that flush is done. */
  isFlushed(flush: number): boolean {
    return ((Atomics.load(this.#words, FLUSHED) - flush) | 0) >= 0; // they wrap
  }

  /** Worker: entries of `queue` were used. Wakes a driver that waits. */
  call(queue: number): void {
    Atomics.or(this.#words, CALLS, 1 << queue);
    this.ringDriver();
  }

  /** Either side: wakes who waits for a call, to look. */
  ringDriver(): void {
    Atomics.add(this.#words, CALL_SEQUENCE, 1);
    Atomics.notify(this.#words, CALL_SEQUENCE);
  }

  /** Driver side: takes all calls, a bit for each queue. */
  takeCalls(): number {
    return Atomics.load(this.#words, CALLS) === 0 ? 0 : Atomics.exchange(this.#words, CALLS, 0);
  }

  /** Driver side: the number to hand to `waitCall`, read before looking whether there is work. */
  callSequence(): number {
    return Atomics.load(this.#words, CALL_SEQUENCE);
  }

  /** Driver side: resolves at the first call after `seen` was read, or after `timeoutMs`. */
  async waitCall(seen: number, timeoutMs: number): Promise<void> {
    const wait = Atomics.waitAsync(this.#words, CALL_SEQUENCE, seen, timeoutMs);
    if (wait.async) await wait.value;
  }

  /** Driver side, for a thread that may block: the same, blocking. */
  waitCallBlocking(seen: number, timeoutMs: number): void {
    Atomics.wait(this.#words, CALL_SEQUENCE, seen, timeoutMs);
  }
}
