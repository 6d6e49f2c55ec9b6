import { Duplex } from "node:stream";
import type { ConsoleInbox } from "./console-inbox.js";

type Callback = (error?: Error | null) => void;

/** What one buffer to the device carries at most. Linux: 32 KiB, too. */
const SEND_BYTES_MAX = 32768;

/** What a port needs of its driver. */
export interface PortHooks {
  /** Hands the device bytes; resolves when it has read them. */
  send(bytes: Uint8Array): Promise<void>;
  /** It is not open any more. */
  closed(): void;
}

/**
 * The guest's end of a console's port, as a stream of Node's. It ends when the host closes the
 * port; what is written waits until the host has it open. `columns`, `rows` and the event "resize"
 * are as those of a terminal of Node's. It is closed when port or device are gone.
 */
export class ConsoleDriverPort extends Duplex {
  /** The port's number. */
  readonly id: number;
  /** Its size, when it is a console and the host has said it. */
  columns: number | undefined;
  rows: number | undefined;
  readonly #inbox: ConsoleInbox;
  readonly #hooks: PortHooks;
  #wantsBytes = false;
  #isHostOpen = false;
  #wasHostOpen = false;
  #onHostOpen: (() => void) | undefined;
  #hasEnded = false;

  /** What came to `inbox` before, and nobody read, is its. */
  constructor(id: number, inbox: ConsoleInbox, hooks: PortHooks) {
    super({ highWaterMark: SEND_BYTES_MAX });
    this.id = id;
    this.#inbox = inbox;
    this.#hooks = hooks;
  }

  /** For the driver: the host has opened or closed its end. */
  setHostOpen(isOpen: boolean): void {
    this.#isHostOpen = isOpen;
    if (isOpen) {
      this.#wasHostOpen = true;
      this.#onHostOpen?.();
      this.#onHostOpen = undefined;
    }
    setImmediate(() => this.deliver()); // its last bytes may be seen after this, in the same turn
  }

  /** For the driver: the console has another size. */
  setSize(columns: number, rows: number): void {
    this.columns = columns;
    this.rows = rows;
    process.nextTick(() => this.emit("resize"));
  }

  /** For the driver: something came, perhaps. */
  deliver(): void {
    while (this.#wantsBytes && !this.destroyed && !this.#hasEnded) {
      const bytes = this.#inbox.take();
      if (bytes === undefined) break;
      if (bytes.length > 0) this.#wantsBytes = this.push(bytes);
    }
    const isOver = this.#wasHostOpen && !this.#isHostOpen && !this.#inbox.hasBytes;
    if (!isOver || this.#hasEnded) return;
    this.#hasEnded = true;
    this.push(null);
  }

  async #send(chunk: Uint8Array): Promise<void> {
    if (!this.#isHostOpen) {
      await new Promise<void>((resolve) => {
        this.#onHostOpen = resolve;
      });
    }
    for (let at = 0; at < chunk.length && !this.destroyed; at += SEND_BYTES_MAX) {
      await this.#hooks.send(chunk.subarray(at, at + SEND_BYTES_MAX));
    }
  }

  /** For Node. */
  override _read(): void {
    this.#wantsBytes = true;
    process.nextTick(() => this.deliver());
  }

  /** For Node. */
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Callback): void {
    this.#send(chunk).then(
      () => done(),
      (error) => done(this.destroyed ? null : error),
    );
  }

  /** For Node. */
  override _destroy(error: Error | null, done: Callback): void {
    this.#onHostOpen?.();
    this.#hooks.closed();
    done(error);
  }
}
