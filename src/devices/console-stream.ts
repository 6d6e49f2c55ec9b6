import { Duplex } from "node:stream";
import { CONSOLE_BUFFER_BYTES_MAX, type ConsolePortLink } from "./console-link.js";

type Callback = (error?: Error | null) => void;

const HIGH_WATER_MARK_BYTES = 1 << 16;

/**
 * The host's end of a console's port, as a stream of Node's. It stays from one guest to the next:
 * what is written waits until the port is open in a guest. It emits "guestOpen" and "guestClose".
 * `destroy` closes the port, and what a guest sends then is lost; the guest is told so.
 */
export class ConsoleStream extends Duplex {
  readonly #port: ConsolePortLink;
  readonly #changed: () => void;
  readonly #onClose: () => void;
  #pending: Buffer | undefined;
  #onWritten: Callback | undefined;
  #wantsBytes = false;
  #wasGuestOpen = false;

  /**
   * Opens the port. `changed`: the worker has something to look at. `onClose`: it is not open any
   * more.
   */
  constructor(port: ConsolePortLink, changed: () => void, onClose: () => void) {
    super({ highWaterMark: HIGH_WATER_MARK_BYTES });
    this.#port = port;
    this.#changed = changed;
    this.#onClose = onClose;
    port.toHost.took(port.toHost.bytes); // for who had it before, and did not read it
    port.isHostOpen = true;
    changed();
  }

  /** Whether the port is open in a guest. */
  get isGuestOpen(): boolean {
    return this.#port.isGuestOpen;
  }

  /** Moves what can be moved; whether anything was. */
  pump(): boolean {
    if (this.destroyed) return false;
    this.#tellGuest();
    const hasSent = this.#send();
    return this.#deliver() || hasSent;
  }

  #tellGuest(): void {
    const { isGuestOpen } = this.#port;
    if (isGuestOpen === this.#wasGuestOpen) return;
    this.#wasGuestOpen = isGuestOpen;
    process.nextTick(() => this.emit(isGuestOpen ? "guestOpen" : "guestClose"));
  }

  #deliver(): boolean {
    const { toHost } = this.#port;
    let isAny = false;
    while (this.#wantsBytes && toHost.bytes > 0) {
      const bytes = Buffer.from(toHost.peek().subarray(0, HIGH_WATER_MARK_BYTES)); // a copy
      const mayStand = toHost.room < CONSOLE_BUFFER_BYTES_MAX;
      toHost.took(bytes.length);
      if (mayStand) this.#changed();
      isAny = true;
      this.#wantsBytes = this.push(bytes);
    }
    return isAny;
  }

  #send(): boolean {
    const pending = this.#pending;
    const sent = pending ? this.#port.toGuest.write(pending) : 0;
    if (!pending || sent === 0) return false;
    this.#pending = sent < pending.length ? pending.subarray(sent) : undefined;
    this.#changed();
    if (!this.#pending) this.#written();
    return true;
  }

  #written(): void {
    const done = this.#onWritten;
    this.#onWritten = undefined;
    if (done) process.nextTick(done);
  }

  /** For Node. */
  override _read(): void {
    this.#wantsBytes = true;
    process.nextTick(() => this.pump()); // a listener that throws must not do so in our work
  }

  /** For Node. */
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Callback): void {
    this.#pending = chunk;
    this.#onWritten = done;
    if (chunk.length === 0) {
      this.#pending = undefined;
      this.#written();
    }
    this.#send();
  }

  /** For Node. */
  override _destroy(error: Error | null, done: Callback): void {
    this.#pending = undefined;
    this.#port.isHostOpen = false;
    this.#changed();
    this.#onClose();
    done(error);
  }
}
