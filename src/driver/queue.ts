import type { DriverRing } from "../ring/ring.js";
import { BURST_MAX } from "../ring/state-block.js";
import { type RingTables, sumErrors, vringErrorName } from "../ring/tables.js";
import { VhostError } from "../spec/errno.js";
import { hasFeature } from "../spec/features.js";
import { VQ_AVAIL_PUBLISHED, VQ_IOV_CAPACITY } from "../spec/ring-state.js";
import { VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_RESET } from "../spec/virtio-config.js";
import { DmaBuffer } from "./dma.js";
import { QueueRing } from "./queue-ring.js";
import type { Transport } from "./transport.js";

/** A run of guest memory: linear address and length in bytes. */
export interface Piece {
  address: number;
  length: number;
}

/** Who is told what becomes of a request. */
export interface Asker {
  /** The device has answered, and says that it wrote so many bytes. */
  done(usedBytes: number): void;
  /** It will not be answered. */
  failed(error: VhostError): void;
}

interface Request {
  out: readonly Piece[];
  in: readonly Piece[];
  /** Lets the memory go, which is the device's while it has the request. */
  letGo: () => void;
  asker: Asker;
  /** What the device says that it wrote, once it has answered. */
  usedBytes: number;
}

/** For a request with nothing to read, or to write. */
export const NO_PIECES: readonly Piece[] = [];

/** Of what lies in no buffer. */
const holdNothing = () => {};

/**
 * The driver's half of a queue: requests in, answers out. What is submitted in one turn of the
 * event loop is published, and the device kicked, once. One thread.
 */
export class Queue {
  readonly index: number;
  readonly #transport: Transport;
  readonly #features: bigint;
  readonly #onSubmit: () => void;
  #live: QueueRing;
  #pending: (Request | undefined)[];
  #backlog: Request[] = [];
  /** What lets go the memory of requests that a device with a broken ring was never rid of. */
  #quarantine: (() => void)[] = [];
  /** Errors of the rings that it had before a reset. */
  #pastErrors: Record<string, number> = {};
  #isFlushDue = false;
  /** More is about to come, and is published with it: see `together`. */
  #isHeld = false;
  #resetting: Promise<void> | undefined;
  #closed: VhostError | undefined;
  /** The ring was broken, or the device is gone: a reset mends the former. */
  #failure: VhostError | undefined;

  /**
   * Lays the queue out in guest memory and tells the device of it. `onSubmit` is called when
   * requests were published. Throws ENOMEM with nothing kept.
   */
  constructor(
    transport: Transport,
    index: number,
    num: number,
    features: bigint,
    onSubmit: () => void,
  ) {
    this.index = index;
    this.#transport = transport;
    this.#features = features;
    this.#onSubmit = onSubmit;
    this.#live = new QueueRing(transport, num, features);
    try {
      transport.setupQueue(index, this.#live.addresses);
    } catch (error) {
      this.#live.release();
      throw error;
    }
    this.#pending = new Array(num);
    this.#ring.disableCall();
  }

  get #ring(): DriverRing {
    return this.#live.ring;
  }

  get #tables(): RingTables {
    return this.#live.tables;
  }

  /** Entries of the ring. */
  get num(): number {
    return this.#live.addresses.num;
  }

  /** Requests that the device has not answered, those that wait for room included. */
  get inFlight(): number {
    return this.#tables.inFlight + this.#backlog.length;
  }

  /** How often each ring error happened, by name. */
  errorCounts(): Record<string, number> {
    return sumErrors(this.#pastErrors, this.#tables.errorCounts());
  }

  /**
   * Hands the device `out` to read and `in` to write; resolves with the bytes it wrote. Waits its
   * turn when the ring is full. Rejects with EINVAL when the ring can never hold it, and with the
   * cause when the device dies or breaks the ring. The pieces lie in `buffer`, which is held while
   * the device may touch it; rejects with EINVAL when that was freed or is another process's.
   */
  submit(out: readonly Piece[], in_: readonly Piece[], buffer?: DmaBuffer): Promise<number> {
    return new Promise((done, failed) => this.put({ done, failed }, out, in_, buffer));
  }

  /**
   * As `submit`, without a promise: `asker` is told, not before this has returned. What it throws
   * is a rejection that nobody handles, and stops nothing.
   */
  put(asker: Asker, out: readonly Piece[], in_: readonly Piece[], buffer?: DmaBuffer): void {
    try {
      const refusal = this.#closed ?? this.#failure;
      if (refusal) throw refusal;
      const letGo = buffer ? DmaBuffer.hold(buffer, this.#transport.shared) : holdNothing;
      this.#backlog.push({ out, in: in_, letGo, asker, usedBytes: 0 });
    } catch (error) {
      tellLater(asker, error as VhostError);
      return;
    }
    this.#flushSoon();
  }

  /** What `work` submits is published, and the device kicked, once: also without a thread. */
  together(work: () => void): void {
    if (this.#isHeld) {
      work();
      return;
    }
    this.#isHeld = true;
    try {
      work();
    } finally {
      this.#isHeld = false;
      if (this.#backlog.length > 0) this.#flushSoon();
    }
  }

  #flushSoon(): void {
    if (this.#isFlushDue || this.#isHeld) return;
    this.#isFlushDue = true;
    if (this.#transport.isInline) this.#flush();
    else queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    this.#isFlushDue = false;
    // Nothing new, and the ring may be gone by now.
    if (this.#closed || this.#failure || this.#resetting) return;
    while (this.#backlog.length > 0 && this.#addBurst() > 0) {}
    this.#ring.publish();
    if (this.#ring.kickNeeded()) this.#transport.kick(this.index, this.#kickData);
    this.#onSubmit();
  }

  /** virtio 1.3, 2.9 Driver Notifications. */
  get #kickData(): number | undefined {
    if (!hasFeature(this.#features, VIRTIO_F_NOTIFICATION_DATA)) return undefined;
    return this.#tables.word(VQ_AVAIL_PUBLISHED);
  }

  /** Moves requests from the backlog to the ring; returns how many left it. */
  #addBurst(): number {
    const count = this.#describe();
    const added = count === 0 ? -1 : this.#ring.addBufs(count);
    if (added < 0) {
      const request = this.#backlog.shift();
      if (request) refuse(request, tooLong(request, this.num));
      return 1;
    }
    for (let i = 0; i < added; i++) this.#pending[this.#tables.head(i)] = this.#backlog[i];
    this.#backlog.splice(0, added);
    return added;
  }

  /** Writes the first requests of the backlog to the tables, as many as these hold. */
  #describe(): number {
    const tables = this.#tables;
    const capacity = tables.word(VQ_IOV_CAPACITY);
    const most = Math.min(BURST_MAX, this.#backlog.length);
    let iov = 0;
    for (let i = 0; i < most; i++) {
      const request = this.#backlog[i] as Request;
      if (iov + request.out.length + request.in.length > capacity) return i;
      tables.setChain(i, iov, request.out.length, request.in.length);
      for (const piece of request.out) tables.setIov(iov++, piece.address, piece.length);
      for (const piece of request.in) tables.setIov(iov++, piece.address, piece.length);
    }
    return most;
  }

  /** Takes what the device has used and tells those who asked. Returns whether there was any. */
  poll(): boolean {
    if (this.#resetting) return false;
    const got = this.#ring.getBufs(BURST_MAX);
    if (got < 0) {
      const cause = vringErrorName(-got);
      this.fail(new VhostError("EIO", `the device broke the used ring: ${cause}`, { cause }));
      return false;
    }
    if (got === 0) return false;
    const answered = this.#takeAnswers(got);
    this.together(() => answered.forEach(tell)); // what waited for room goes with what they submit
    return true;
  }

  /** Those that the device has answered, in its order. Its tables are free for others then. */
  #takeAnswers(got: number): Request[] {
    const answered: Request[] = [];
    for (let i = 0; i < got; i++) {
      const head = this.#tables.head(i);
      const request = this.#pending[head];
      if (!request) continue;
      this.#pending[head] = undefined;
      request.letGo();
      request.usedBytes = this.#tables.usedBytes(i);
      answered.push(request);
    }
    return answered;
  }

  /** Asks to be called, then looks again. True: there is something to poll for. */
  enableCall(): boolean {
    return this.#ring.enableCall();
  }

  /** Asks not to be called. */
  disableCall(): void {
    this.#ring.disableCall();
  }

  /**
   * Resets the queue, the others go on, and sets it up again with `num` entries. What the device
   * has of it rejects with ECANCELED; what waits for room, or comes meanwhile, goes to the new
   * ring. Also brings back a queue whose ring the device broke. Rejects, with the queue as it was,
   * with EOPNOTSUPP when VIRTIO_F_RING_RESET was not negotiated, EINVAL for a size that the device
   * does not take, EBUSY while a reset is under way, ENOMEM. Rejects with EIO when the device goes
   * on with a queue that it was to reset, and with the cause when it dies: then the queue takes no
   * more requests. virtio 1.3, 2.6.1 Virtqueue Reset. Linux: virtqueue_resize().
   */
  async reset(num = this.num): Promise<void> {
    this.#checkReset(num);
    const next = new QueueRing(this.#transport, num, this.#features);
    const work = this.#resetTo(next);
    this.#resetting = work.catch(() => {});
    try {
      await work;
    } catch (error) {
      if (this.#live !== next) next.release();
      this.fail(error as VhostError);
      throw error;
    } finally {
      this.#resetting = undefined;
    }
    this.#flush();
  }

  async #resetTo(next: QueueRing): Promise<void> {
    await this.#resetDevice();
    if (this.#closed) throw this.#closed;
    this.#replace(next);
    await this.#transport.enableQueue(this.index, next.addresses);
  }

  #checkReset(num: number): void {
    if (this.#closed) throw this.#closed;
    if (!hasFeature(this.#features, VIRTIO_F_RING_RESET)) {
      throw new VhostError("EOPNOTSUPP", "VIRTIO_F_RING_RESET was not negotiated");
    }
    if (this.#resetting) throw new VhostError("EBUSY", `queue ${this.index} is being reset`);
    const most = this.#transport.queueSizeMax;
    if (num > most) throw new VhostError("EINVAL", `a queue has at most ${most} entries`, { num });
  }

  /** virtio 1.3, 2.6.1.1.2 Driver Requirements: Virtqueue Reset: it is not just believed. */
  async #resetDevice(): Promise<void> {
    await this.#transport.resetQueue(this.index);
    if (!this.#transport.isQueueEnabled(this.index)) return;
    throw new VhostError("EIO", `the device did not reset queue ${this.index}`);
  }

  /** The device has nothing of the old ring any more. */
  #replace(next: QueueRing): void {
    const canceled = new VhostError("ECANCELED", "the queue was reset");
    for (const request of this.#pending) if (request) refuse(request, canceled);
    for (const letGo of this.#quarantine.splice(0)) letGo();
    this.#pastErrors = this.errorCounts();
    this.#live.release();
    this.#live = next;
    this.#pending = new Array(next.addresses.num);
    this.#failure = undefined; // what broke the old ring is over
  }

  /** Resolves when no reset is under way. Never rejects. */
  async settled(): Promise<void> {
    await this.#resetting;
  }

  /** Rejects with `error` all that comes and all that the device has not been given. */
  close(error: VhostError): void {
    this.#closed ??= error;
    this.#rejectBacklog(this.#closed);
  }

  #rejectBacklog(error: VhostError): void {
    for (const request of this.#backlog.splice(0)) refuse(request, error);
  }

  /**
   * Rejects all that waits, and all that comes, with `error`. The memory of what the device has is
   * held on until `release`: a device with a broken ring may still write to it.
   */
  fail(error: VhostError): void {
    const failure = this.#failure ?? error;
    this.#failure = failure;
    this.#rejectBacklog(failure);
    const lost = this.#pending.filter((request) => request !== undefined);
    this.#pending.fill(undefined);
    for (const { letGo, asker } of lost) {
      this.#quarantine.push(letGo);
      tellLater(asker, failure);
    }
  }

  /** Whether it takes no more requests. */
  get isFailed(): boolean {
    return this.#failure !== undefined;
  }

  /** Gives its memory back, after the device was reset. */
  release(): void {
    for (const letGo of this.#quarantine.splice(0)) letGo();
    this.#live.release();
  }
}

/** What it throws is as what a promise's reaction throws: it stops nobody else. */
function tell({ asker, usedBytes }: Request): void {
  try {
    asker.done(usedBytes);
  } catch (error) {
    void Promise.reject(error);
  }
}

function refuse({ letGo, asker }: Request, error: VhostError): void {
  letGo();
  tellLater(asker, error);
}

/** Not in the midst of what has failed. */
function tellLater(asker: Asker, error: VhostError): void {
  queueMicrotask(() => asker.failed(error));
}

function tooLong({ out, in: in_ }: Request, num: number): VhostError {
  const pieces = out.length + in_.length;
  const message = `the ring, of ${num} entries, can't hold a request of ${pieces} pieces`;
  return new VhostError("EINVAL", message, { pieces, num });
}
