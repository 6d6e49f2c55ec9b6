import type { Chain } from "../vhost/chain.js";
import type { Virtqueue } from "../vhost/virtqueue.js";
import {
  CONSOLE_BUFFER_BYTES_MAX,
  type ConsoleLink,
  type ConsolePortLink,
} from "./console-link.js";

/** Buffers that one turn of a queue takes or fills. */
const BUFFERS_A_TURN = 32;
/**
 * So long, in milliseconds, a console's guest waits for a host that does not read; then it goes on
 * and what it writes is lost. A Linux guest stands still while it waits.
 */
export const CONSOLE_PATIENCE_MS = 100;

/** A port's two queues, and its pipes. Worker thread. */
export class ConsolePort {
  readonly #link: ConsoleLink;
  readonly #port: ConsolePortLink;
  readonly #isConsole: boolean;
  readonly #now: () => number;
  /** Since when, in milliseconds, there was no room for the guest's bytes. */
  #stalledAt: number | undefined;
  /** The queue to the host, while it waits for room. */
  #stalled: Virtqueue | undefined;
  /** Whether the chain that was shown last was a good one. */
  #isGood = false;

  /** `isConsole`: its guest must not be held up. `now`: a clock, in milliseconds. */
  constructor(link: ConsoleLink, port: ConsolePortLink, isConsole: boolean, now: () => number) {
    this.#link = link;
    this.#port = port;
    this.#isConsole = isConsole;
    this.#now = now;
  }

  /** Whether there are bytes for the guest, and it wants them. */
  get canReceive(): boolean {
    return this.#port.isGuestOpen && this.#port.toGuest.bytes > 0;
  }

  /** Gives the guest what there is for it, and buffers for it. */
  receive(vq: Virtqueue): void {
    const put = (chain: Chain) => this.#put(chain, vq);
    let isAny = false;
    for (let i = 0; i < BUFFERS_A_TURN && this.canReceive; i++) {
      this.#isGood = false;
      vq.drain(put, 1);
      if (!this.#isGood) break;
      isAny = true;
    }
    if (isAny) this.#link.hostBell.ring();
  }

  #put({ readable, writable }: Chain, vq: Virtqueue): number {
    if (readable.count > 0 || writable.bytes === 0) return vq.badRequest();
    this.#isGood = true;
    const { toGuest } = this.#port;
    const bytes = Math.min(writable.bytes, toGuest.bytes);
    for (let done = 0; done < bytes; ) {
      const piece = toGuest.peek().subarray(0, bytes - done);
      writable.write(done, piece);
      toGuest.took(piece.length);
      done += piece.length;
    }
    return bytes;
  }

  /** Takes what the guest has sent, as far as there is room: the rest stays in its ring. */
  transmit(vq: Virtqueue): void {
    const port = this.#port;
    const take = (chain: Chain) => this.#take(chain, vq);
    if (this.#hasRoom) this.#stalledAt = undefined;
    let isAny = false;
    for (let i = 0; i < BUFFERS_A_TURN && this.#mayTake; i++) {
      this.#isGood = false;
      vq.drain(take, 1);
      if (!this.#isGood) break;
      isAny = true;
    }
    const isStalled = !this.#mayTake && vq.hasChains;
    this.#stalled = isStalled ? vq : undefined;
    if (isStalled) this.#stalledAt ??= this.#now();
    if (isAny && port.isHostOpen) this.#link.hostBell.ring();
  }

  get #hasRoom(): boolean {
    return this.#port.toHost.room >= CONSOLE_BUFFER_BYTES_MAX;
  }

  /** Whether the guest's next buffer has a place to go to, if that is nowhere. */
  get #mayTake(): boolean {
    return this.#hasRoom || !this.#port.isHostOpen || this.#isLosing;
  }

  get #isLosing(): boolean {
    return this.#isConsole && this.#patienceMs === 0;
  }

  get #patienceMs(): number {
    if (this.#stalledAt === undefined) return CONSOLE_PATIENCE_MS;
    return Math.max(0, Math.ceil(this.#stalledAt + CONSOLE_PATIENCE_MS - this.#now()));
  }

  #take({ readable, writable }: Chain, vq: Virtqueue): number {
    const { bytes } = readable;
    const isGood = bytes > 0 && bytes <= CONSOLE_BUFFER_BYTES_MAX && writable.count === 0;
    if (!isGood) return vq.badRequest();
    this.#isGood = true;
    const { toHost, isHostOpen } = this.#port;
    if (!isHostOpen || !this.#hasRoom) {
      this.#port.lose(bytes);
      return 0;
    }
    for (let done = 0; done < bytes; ) {
      const place = toHost.place().subarray(0, bytes - done);
      readable.read(done, place);
      toHost.wrote(place.length);
      done += place.length;
    }
    return 0;
  }

  /** Takes bytes that came another way than by the queue. */
  takeBytes(bytes: Uint8Array): void {
    const { toHost, isHostOpen } = this.#port;
    const taken = isHostOpen ? toHost.write(bytes) : 0;
    this.#port.lose(bytes.length - taken);
    this.#link.hostBell.ring();
  }

  /** A queue is gone. */
  forget(vq: Virtqueue): void {
    if (this.#stalled === vq) this.#stalled = undefined;
  }

  /** Whether the guest's buffers, which waited for room, need not wait any more. */
  get canTransmitAgain(): boolean {
    return this.#stalled !== undefined && this.#mayTake;
  }

  /** How long it may go on waiting, in milliseconds. */
  get sleepMsMax(): number {
    return this.#isConsole && this.#stalled?.hasChains
      ? this.#patienceMs
      : Number.POSITIVE_INFINITY;
  }
}
