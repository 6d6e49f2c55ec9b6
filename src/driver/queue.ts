import { type VringArea, vringAreas } from "../memory/vring.js";
import type { DriverRing } from "../ring/ring.js";
import { allocDriverState, BURST_MAX, type StateBlock } from "../ring/state-block.js";
import { RingTables, vringErrorName } from "../ring/tables.js";
import { VhostError } from "../spec/errno.js";
import { hasFeature } from "../spec/features.js";
import { VQ_IOV_CAPACITY } from "../spec/ring-state.js";
import { VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_PACKED } from "../spec/virtio-config.js";
import { VIRTQ_DESC_BYTES } from "../spec/virtio-ring.js";
import { DmaBuffer } from "./dma.js";
import type { Transport } from "./transport.js";

/** Pieces that go into an indirect table; longer chains are direct. */
const INDIRECT_CAPACITY = 32;
/** The areas that one side alone writes lie on no cache line together. */
const AREA_ALIGN = 64;

/** A run of guest memory: linear address and length in bytes. */
export interface Piece {
  address: number;
  length: number;
}

interface Request {
  out: readonly Piece[];
  in: readonly Piece[];
  /** Lets the memory go, which is the device's while it has the request. */
  letGo: () => void;
  resolve(usedBytes: number): void;
  reject(error: VhostError): void;
}

/**
 * The driver's half of a queue: requests in, promises out. What is submitted in one turn of the
 * event loop is published, and the device kicked, once. One thread.
 */
export class Queue {
  readonly index: number;
  /** Entries of the ring. */
  readonly num: number;
  readonly #transport: Transport;
  readonly #ring: DriverRing;
  readonly #tables: RingTables;
  #state: StateBlock | undefined;
  readonly #areas: DmaBuffer[];
  readonly #pending: (Request | undefined)[];
  readonly #onSubmit: () => void;
  #backlog: Request[] = [];
  /** What lets go the memory of requests that a device with a broken ring was never rid of. */
  #quarantine: (() => void)[] = [];
  #isFlushDue = false;
  #closing: VhostError | undefined;
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
    const { shared } = transport;
    this.index = index;
    this.num = num;
    this.#transport = transport;
    this.#onSubmit = onSubmit;
    this.#areas = [];
    try {
      const place = ({ bytes, align }: VringArea): number => {
        const buffer = new DmaBuffer(shared, bytes, align);
        this.#areas.push(buffer);
        return buffer.address;
      };
      const areas = vringAreas(num, hasFeature(features, VIRTIO_F_RING_PACKED));
      const desc = place(areas.desc);
      const driver = place({ ...areas.driver, align: AREA_ALIGN });
      const device = place({ ...areas.device, align: AREA_ALIGN });
      const capacity = INDIRECT_CAPACITY;
      const tables = { bytes: num * capacity * VIRTQ_DESC_BYTES, align: VIRTQ_DESC_BYTES };
      const hasIndirect = hasFeature(features, VIRTIO_F_INDIRECT_DESC);
      const indirect = hasIndirect ? { address: place(tables), capacity } : undefined;
      this.#state = allocDriverState(shared, { num, desc, driver, device, features }, indirect);
      const guest = (address: number) => shared.toGuest(address);
      transport.setupQueue(index, {
        num,
        desc: guest(desc),
        driver: guest(driver),
        device: guest(device),
      });
    } catch (error) {
      this.release();
      throw error;
    }
    this.#pending = new Array(num);
    this.#tables = new RingTables(shared.memory, this.#state.vq);
    this.#ring = transport.driverRing(this.#state.vq);
    this.#ring.reset();
    this.#ring.disableCall();
  }

  /** Requests that the device has not answered, those that wait for room included. */
  get inFlight(): number {
    return this.#tables.inFlight + this.#backlog.length;
  }

  /** How often each ring error happened, by name. */
  errorCounts(): Record<string, number> {
    return this.#tables.errorCounts();
  }

  /**
   * Hands the device `out` to read and `in` to write; resolves with the bytes it wrote. Waits its
   * turn when the ring is full. Rejects with EINVAL when the ring can never hold it, and with the
   * cause when the device dies or breaks the ring. The pieces lie in `buffer`, which is held while
   * the device may touch it; rejects with EINVAL when that was freed or is another process's.
   */
  async submit(out: readonly Piece[], in_: readonly Piece[], buffer?: DmaBuffer): Promise<number> {
    if (this.#closing) throw this.#closing;
    const letGo = buffer ? DmaBuffer.hold(buffer, this.#transport.shared) : () => {};
    return new Promise((resolve, reject) => {
      this.#backlog.push({ out, in: in_, letGo, resolve, reject });
      if (this.#isFlushDue) return;
      this.#isFlushDue = true;
      if (this.#transport.isInline) this.#flush();
      else queueMicrotask(() => this.#flush());
    });
  }

  #flush(): void {
    this.#isFlushDue = false;
    if (this.#closing) return; // nothing new, and the ring may be gone by now
    while (this.#backlog.length > 0 && this.#addBurst() > 0) {}
    this.#ring.publish();
    if (this.#ring.kickNeeded()) this.#transport.kick(this.index);
    this.#onSubmit();
  }

  /** Moves requests from the backlog to the ring; returns how many left it. */
  #addBurst(): number {
    const count = this.#describe();
    const added = count === 0 ? -1 : this.#ring.addBufs(count);
    if (added < 0) {
      const facts = { pieces: this.#backlog[0]?.out.length, in: this.#backlog[0]?.in.length };
      const request = this.#backlog.shift();
      request?.letGo();
      request?.reject(new VhostError("EINVAL", "no ring of this size can hold it", facts));
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

  /** Takes what the device has used and settles its promises. Returns whether there was any. */
  poll(): boolean {
    const got = this.#ring.getBufs(BURST_MAX);
    if (got < 0) {
      const cause = vringErrorName(-got);
      this.fail(new VhostError("EIO", `the device broke the used ring: ${cause}`, { cause }));
      return false;
    }
    for (let i = 0; i < got; i++) {
      const head = this.#tables.head(i);
      const request = this.#pending[head];
      this.#pending[head] = undefined;
      request?.letGo();
      request?.resolve(this.#tables.usedBytes(i));
    }
    if (got > 0 && this.#backlog.length > 0) this.#flush();
    return got > 0;
  }

  /** Asks to be called, then looks again. True: there is something to poll for. */
  enableCall(): boolean {
    return this.#ring.enableCall();
  }

  /** Asks not to be called. */
  disableCall(): void {
    this.#ring.disableCall();
  }

  /** Rejects with `error` all that comes and all that the device has not been given. */
  close(error: VhostError): void {
    this.#closing ??= error;
    for (const request of this.#backlog.splice(0)) {
      request.letGo();
      request.reject(this.#closing);
    }
  }

  /**
   * Rejects all that waits, and all that comes, with `error`. The memory of what the device has is
   * held on until `release`: a device with a broken ring may still write to it.
   */
  fail(error: VhostError): void {
    this.#failure ??= error;
    this.close(this.#failure);
    const lost = this.#pending.filter((request) => request !== undefined);
    this.#pending.fill(undefined);
    for (const request of lost) {
      this.#quarantine.push(request.letGo);
      request.reject(this.#failure);
    }
  }

  /** Whether it takes no more requests. */
  get isFailed(): boolean {
    return this.#failure !== undefined;
  }

  /** Gives its memory back, after the device was reset. */
  release(): void {
    for (const letGo of this.#quarantine.splice(0)) letGo();
    for (const buffer of this.#areas) buffer.free();
    this.#state?.release();
    this.#state = undefined;
  }
}
