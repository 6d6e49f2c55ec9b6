import type { MovePackets } from "../ring/packets.js";
import type { DeviceRing } from "../ring/ring.js";
import { RingTables } from "../ring/tables.js";
import {
  VQ_F_LINUX,
  VQ_FLAGS,
  VQ_IN_FLIGHT,
  VQ_LAST_AVAIL,
  VQ_NOTIFY_DISABLED,
  VQ_NUM,
  VRING_E_REQUEST,
} from "../spec/ring-state.js";
import { AnsweredChains } from "./answered.js";
import { Chain, HeldChain } from "./chain.js";
import { type DrainWays, leftOf, type QueueHooks, type Room } from "./drain.js";
import { Pace } from "./pace.js";
import { Rest } from "./rest.js";

/** Requests that one turn of a queue may take before others get theirs. Linux: the weight. */
export const VHOST_WEIGHT_REQUESTS_MAX = 256;
/** Bytes that one turn of a queue may move. Linux: VHOST_..._WEIGHT, 0x80000. */
export const VHOST_WEIGHT_BYTES_MAX = 0x80000;
/** Chains popped at once under policy linux. */
const LINUX_BURST_MAX = 16;

/** What a handler given to `drain` returns for a chain that it holds, to answer it later. */
export const HELD = -1;
/** What it returns for a chain that stays in the ring: see `Virtqueue.putBack`. */
export const PUT_BACK = -2;

const BAD_ANSWER =
  "a handler given to drain() must return, at once, how many bytes it wrote: a whole number";
const BAD_HOLD = "a handler given to drain() holds a chain by hold() and HELD, the two together";

/** In the place of the number of a chain that is held: none yet; no burst is being handled. */
const NOT_HELD = -1;
const NO_BURST = -2;

/** The device's half of a queue, as a device sees it. Worker thread. Linux: vhost_virtqueue. */
export class Virtqueue {
  /** The queue's number. */
  readonly index: number;
  #ring: DeviceRing;
  readonly #tables: RingTables;
  readonly #chain: Chain;
  readonly #hooks: QueueHooks;
  readonly #rest: Rest;
  readonly #pace: Pace;
  #isUnfinished = false;
  /** Chains that were good, of those popped in this turn. */
  #goodCount = 0;
  /** Errors and entries that the ring had when the present or last turn began. */
  #begunErrors = 0;
  #begunCount = 0;
  /** Entries that the device left in the ring on purpose: it took none at its last turn. */
  #leftCount = 0;
  readonly #isLinux: boolean;
  /** Policy linux: `drain` was called in this turn, and has said whether it wants kicks. */
  #hasDrained = false;
  /** Chains that were put back, at the last drain. */
  #putBackCount = 0;
  /** The device wants what it left. */
  #isWanted = false;
  readonly #memory: WebAssembly.Memory;
  #bulk: DrainWays["bulk"];
  /** The chain of the present burst that was held last. */
  #heldIndex = NO_BURST;
  /** Chains that are answered, and not in the used ring yet. */
  readonly #answered: AnsweredChains;

  constructor(index: number, ring: DeviceRing, memory: WebAssembly.Memory, hooks: QueueHooks) {
    this.index = index;
    this.#memory = memory;
    this.#tables = new RingTables(memory, ring.vq);
    this.#answered = new AnsweredChains(this.#tables);
    this.#chain = new Chain(memory, this.#tables);
    this.#hooks = hooks;
    this.#rest = new Rest(hooks.now);
    this.#pace = new Pace(hooks.now);
    this.#isLinux = (this.#tables.word(VQ_FLAGS) & VQ_F_LINUX) !== 0;
    this.#ring = ring;
  }

  /**
   * Handles what is available, in bursts: `handle` gets each chain and returns the bytes it wrote
   * to the writable side, or HELD. Used entries are published, and the driver called if it asked,
   * after each burst. A bounded amount of requests, bytes and time, see `Pace`: when one is used up
   * the worker comes back after the other queues. `room`: how many the device takes, or a function
   * that says, before each burst, how many more; the rest stays in the ring, see `revisit`.
   * Policy linux: the driver is called once, at the end, and neither time nor errors end a turn.
   */
  drain(
    handle: (chain: Chain) => number,
    room: Room = Number.POSITIVE_INFINITY,
    ways: DrainWays = {},
  ): void {
    this.#bulk = ways.bulk;
    if (!this.#isLinux) {
      this.#isUnfinished = this.#drain(handle, room, ways.burstMax);
      return;
    }
    this.#hasDrained = true;
    this.#putBackCount = 0;
    this.#isUnfinished = this.#drainAsLinux(handle, room);
    this.signal();
  }

  /** True when it stopped at a limit. */
  #drain(handle: (chain: Chain) => number, room: Room, burstMax?: number): boolean {
    const pace = this.#pace;
    let requests = 0;
    let bytes = 0;
    let taken = 0;
    let left = leftOf(room, taken);
    if (left === 0) return false;
    pace.begin();
    while (requests < VHOST_WEIGHT_REQUESTS_MAX && bytes < VHOST_WEIGHT_BYTES_MAX) {
      const asked = pace.ask(left);
      const got = this.#ring.getDescs(asked);
      pace.popped(asked, got);
      const moved = this.#handle(got, handle);
      taken += Math.max(0, got);
      left = leftOf(room, taken);
      this.signal();
      const isDone = left === 0 || this.#ring.availLen() === 0 || this.isRefused;
      const isOver = pace.ended(asked, isDone, this.#errorsOfTurn > 0, burstMax);
      if (isDone) return false;
      if (isOver) break;
      requests += asked; // malformed chains count like good ones
      bytes += moved;
    }
    return true;
  }

  /** As `#drain`. Linux: handle_kick() of its devices, vhost_exceeds_weight(). */
  #drainAsLinux(handle: (chain: Chain) => number, room: Room): boolean {
    const ring = this.#ring;
    let requests = 0;
    let bytes = 0;
    while (requests < VHOST_WEIGHT_REQUESTS_MAX && bytes < VHOST_WEIGHT_BYTES_MAX) {
      const left = leftOf(room, requests);
      if (left === 0) return false;
      const got = ring.getDescs(Math.min(LINUX_BURST_MAX, left));
      if (got < 0) return false; // kicks stay disabled
      if (got === 0) {
        if (!ring.enableKick()) return false;
        ring.disableKick();
        continue;
      }
      bytes += this.#handle(got, handle);
      requests += got;
      ring.publish();
      if (this.#putBackCount > 0) return false;
    }
    return true;
  }

  /** Handles what `getDescs` gave, and counts it. Returns bytes. */
  #handle(got: number, handle: (chain: Chain) => number): number {
    const moved = got > 0 ? this.#burst(got, handle) : 0;
    const popped = Math.max(0, got) - this.#putBackCount; // a refusal is a negative number
    this.#hooks.count(popped, moved);
    this.#goodCount += popped;
    return moved;
  }

  /** How many errors were counted in this turn. */
  get #errorsOfTurn(): number {
    return (this.#tables.errorTotal - this.#begunErrors) >>> 0; // it wraps
  }

  #burst(count: number, handle: (chain: Chain) => number): number {
    let bytes = 0;
    let used = 0;
    this.#heldIndex = NOT_HELD;
    for (let i = 0; i < count; i++) {
      const done = used === i && this.#bulk ? this.#bulk(i, count - i) : 0;
      if (done > 0) {
        bytes += this.#tables.sumBytes(i, done);
        used = i += done;
        if (i === count) break;
      }
      const chain = this.#chain.show(i);
      const { readable, writable } = chain;
      bytes += readable.bytes;
      const written = handle(chain);
      if (written === PUT_BACK) {
        this.#unpop(count - i);
        break;
      }
      if ((written === HELD) !== (this.#heldIndex === i)) throw new TypeError(BAD_HOLD);
      if (written === HELD) {
        bytes += writable.bytes; // as many at most, later
        continue;
      }
      if (!Number.isInteger(written) || written < 0) throw new TypeError(BAD_ANSWER);
      if (used < i) this.#tables.moveChain(used, i); // those before it are held
      const usedBytes = Math.min(written, writable.bytes);
      this.#tables.setUsedBytes(used++, usedBytes);
      bytes += usedBytes;
    }
    this.#heldIndex = NO_BURST;
    if (used > 0) this.#ring.addUsedN(used);
    return bytes;
  }

  /** The chains that were popped last are the next to pop again. */
  #unpop(count: number): void {
    const tables = this.#tables;
    tables.setWord(VQ_LAST_AVAIL, (tables.word(VQ_LAST_AVAIL) - count) & 0xffff);
    tables.setWord(VQ_IN_FLIGHT, tables.inFlight - count);
    this.#putBackCount = count;
  }

  /**
   * Policy linux, for `drain`'s handler to return: the chain, which it was shown last, and what was
   * popped behind it, stay in the ring, and the turn is over. Linux: vhost_discard_vq_desc().
   */
  putBack(): number {
    if (!this.#isLinux) throw new TypeError("a chain is put back under policy linux alone");
    return PUT_BACK;
  }

  /**
   * Keeps `chain`, which `drain` shows its handler now; that then returns HELD. The device answers
   * it by `answer`, in any order: such a device must say so, see `VirtioDevice.answersLater`.
   */
  hold({ index }: Chain): HeldChain {
    this.#heldIndex = index;
    return new HeldChain(this.#memory, this.#tables, index);
  }

  /**
   * A held chain is done: `written` bytes were written. The driver sees it after `flush`. Throws
   * TypeError for no whole number, and for a chain that was answered.
   */
  answer(chain: HeldChain, written: number): void {
    if (!Number.isInteger(written) || written < 0) throw new TypeError(BAD_ANSWER);
    this.#answered.add(chain, written);
  }

  /**
   * Publishes what was answered and calls the driver if it asked. Throws TypeError within `drain`'s
   * handler: the tables are the burst's then.
   */
  flush(): void {
    if (this.#heldIndex !== NO_BURST) throw new TypeError("flush() is not for drain()'s handler");
    while (this.#answered.length > 0) this.#ring.addUsedN(this.#answered.stage());
    this.signal();
  }

  /**
   * Counts a request that could not be read or answered; `drain`'s handler returns what it gives.
   */
  badRequest(): number {
    this.#tables.countError(VRING_E_REQUEST);
    return 0;
  }

  /**
   * As `badRequest`; but under policy linux the chain never goes back, as with Linux's devices that
   * find fault with a packet: it is consumed and forgotten. `faults`: so often it is counted there.
   */
  swallow({ index }: Chain, faults = 1): number {
    if (!this.#isLinux) return this.badRequest();
    for (let i = 0; i < faults; i++) this.badRequest();
    this.#heldIndex = index;
    return HELD;
  }

  /** For `bulk`, of a burst's chains: see `MovePackets`. */
  movePackets(
    move: MovePackets,
    first: number,
    count: number,
    [at, end]: readonly [number, number],
    isFromGuest: boolean,
  ): number {
    return move(this.#ring.vq, first, count, at, end, isFromGuest);
  }

  /** Counts a request that failed on the device's own side; `errno`: the system's reason. */
  failed(errno: number): void {
    this.#hooks.fail(errno);
  }

  /** Publishes what is staged and calls the driver if it asked. Linux: vhost_signal(). */
  signal(): void {
    this.#ring.publish();
    if (this.#ring.callNeeded()) this.#hooks.call(this.index);
  }

  /** Begins the queue's turn: no kicks meanwhile, the worker looks at the ring by itself. */
  begin(): void {
    this.#begunErrors = this.#tables.errorTotal;
    this.#ring.disableKick();
    this.#rest.begin();
    this.#isWanted = false;
    this.#hasDrained = false;
    this.#goodCount = 0;
    this.#begunCount = this.#ring.availLen();
  }

  /**
   * Ends the queue's turn, and remembers what the device did not want yet; what was made available
   * meanwhile is not among it. True when `drain` stopped at its limit: it must have another turn.
   */
  settle(): boolean {
    const isUnfinished = this.#isUnfinished;
    this.#isUnfinished = false;
    const hasErrors = this.#errorsOfTurn > 0;
    this.#leftCount = this.#goodCount === 0 && !hasErrors ? this.#begunCount : 0;
    if (hasErrors) this.#hooks.error(this.index, this.#errorsOfTurn);
    this.#rest.end(hasErrors);
    return isUnfinished;
  }

  /** Goes on with another ring over the same state block. */
  set ring(ring: DeviceRing) {
    this.#ring = ring;
  }

  /** Entries that the ring has. */
  get size(): number {
    return this.#tables.word(VQ_NUM);
  }

  /** Whether its turn is to wait, so that the worker's other queues get theirs: it erred. */
  get isResting(): boolean {
    return this.#rest.isOn;
  }

  /** Where the ring goes on: what `DeviceRing.start` takes. Linux: last_avail_idx. */
  get position(): number {
    return this.#tables.position;
  }

  /** Entries that the device left in the ring are work for it now: the queue gets a turn. */
  revisit(): void {
    this.#leftCount = 0;
    this.#isWanted = !this.#isLinux || this.#ring.availLen() > 0 || this.#ring.enableKick();
  }

  /** Whether entries are in the ring, those that the device left there included. */
  get hasChains(): boolean {
    return this.#ring.availLen() > 0 && !this.isRefused;
  }

  /**
   * Whether entries came since the last turn. While a refusal stands, none that may be popped.
   * Policy linux, without a time to poll: nobody looks for what was not kicked, but what the device
   * wants is work.
   */
  hasWork(): boolean {
    if (this.#isLinux && !this.#isWanted && !this.#hooks.polls()) return false;
    const count = this.#ring.availLen();
    return count > 0 && count !== this.#leftCount && !this.isRefused;
  }

  /** Whether entries may wait in it of which no kick will tell: the device took no more of them. */
  get isHeldUp(): boolean {
    if (!this.#isLinux) return this.hasWork();
    return this.#tables.word(VQ_NOTIFY_DISABLED) !== 0 && !this.isRefused;
  }

  /** Whether the driver's index or head can't be trusted until it is repaired. */
  get isRefused(): boolean {
    return this.#tables.error !== 0;
  }

  /** Whether it is to be looked at again without a kick. Policy linux: Linux does not. */
  get awaitsRepair(): boolean {
    return this.isRefused && !this.#isLinux;
  }

  /** What a kick said, with VIRTIO_F_NOTIFICATION_DATA: see `DeviceRing.kicked`. */
  kicked(position: number): void {
    if (this.#ring.kicked(position) < 0) this.#hooks.error(this.index, 1);
  }

  /**
   * Asks for kicks, then looks again: true when there is work and the worker must not sleep.
   * Policy linux: where the turn has drained the queue, it was said there: the driver of a queue
   * that failed, or has no room, goes on being told not to kick.
   */
  enableKick(): boolean {
    if (this.#isLinux && this.isRefused) return false;
    if (this.#isLinux && this.#hasDrained) return this.hasWork();
    return this.#ring.enableKick() && this.hasWork();
  }
}
