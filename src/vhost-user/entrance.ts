import { setTimeout as sleep } from "node:timers/promises";
import { hasInput } from "../linux/eventfd.js";
import { closeFd } from "../linux/libc.js";
import { Readiness } from "../linux/readiness.js";
import { acceptUnix, connectUnix } from "../linux/unix-socket.js";
import { VhostError } from "../spec/errno.js";
import { asVhostError } from "../vhost/control.js";
import { SocketFile } from "./socket-file.js";

/** How the next front-end comes to a server. Main thread. */
export interface Entrance {
  /** Another front-end than the one that is served is there. */
  readonly hasWaiting: boolean;
  /** Resolves when one is there; `false` after `stop`. Rejects when none can come any more. */
  wait(): Promise<boolean>;
  /** Its connection, the caller's to close; `undefined` when it has gone. Throws. */
  take(): number | undefined;
  /** No more are waited for. Idempotent. */
  stop(): void;
  /** Gives everything back. Called once, last. */
  close(): void;
}

/** Front-ends connect to a socket of ours. */
export class Listening implements Entrance {
  readonly #socket: SocketFile;
  readonly #readiness: Readiness;

  private constructor(socket: SocketFile) {
    this.#socket = socket;
    this.#readiness = new Readiness(socket.fd);
  }

  /** Rejects as `SocketFile.listen` does. */
  static async at(path: string): Promise<Listening> {
    const entrance = new Listening(await SocketFile.listen(path));
    try {
      await Readiness.started();
      return entrance;
    } catch (error) {
      entrance.close();
      throw error;
    }
  }

  get hasWaiting(): boolean {
    return hasInput(this.#socket.fd);
  }

  wait(): Promise<boolean> {
    return this.#readiness.wait();
  }

  take(): number | undefined {
    return acceptUnix(this.#socket.fd);
  }

  stop(): void {
    this.#readiness.close();
  }

  close(): void {
    this.stop();
    this.#socket.close();
  }
}

/** From a front-end that has gone to the first look for it, in milliseconds; then twice as long. */
const DELAY_MS_MIN = 50;
/** The longest from one look to the next. */
const DELAY_MS_MAX = 1000;
/** What connecting fails with as long as nobody listens there, or does not take us yet. */
const NOBODY: readonly string[] = ["ENOENT", "ECONNREFUSED", "EAGAIN"];

/**
 * We connect to the front-end's socket, and again when it was gone: QEMU's `server=on`, DPDK's
 * `server=1`. While nobody listens there, and when who does hangs up at once, we look ever less
 * often.
 */
export class Connecting implements Entrance {
  readonly hasWaiting = false;
  readonly #path: string;
  readonly #onError: (error: VhostError) => void;
  readonly #abort = new AbortController();
  #connection: number | undefined;
  #delayMs = 0;
  /** When the last one was taken, in milliseconds. */
  #takenAt = 0;
  /** What was told last. */
  #told: string | undefined;

  /**
   * Connects at once, if somebody listens. `onError`: told, once, of what keeps us from connecting
   * later on. Throws EACCES, ENAMETOOLONG and the like, and ENOSYS as `libc` does.
   */
  constructor(path: string, onError: (error: VhostError) => void) {
    this.#path = path;
    this.#onError = onError;
    try {
      this.#connection = connectUnix(path);
    } catch (error) {
      if (!isNobody(error)) throw error;
    }
  }

  async wait(): Promise<boolean> {
    const { signal } = this.#abort;
    if (performance.now() - this.#takenAt > DELAY_MS_MAX) this.#delayMs = 0; // it was served
    while (this.#connection === undefined && !signal.aborted) {
      this.#delayMs = Math.min(DELAY_MS_MAX, Math.max(DELAY_MS_MIN, 2 * this.#delayMs));
      await sleep(this.#delayMs, undefined, { signal }).catch(() => {});
      if (!signal.aborted) this.#connect();
    }
    return !signal.aborted;
  }

  #connect(): void {
    try {
      this.#connection = connectUnix(this.#path);
      this.#told = undefined;
    } catch (thrown) {
      const error = asVhostError(thrown);
      if (!isNobody(error) && this.#told !== error.message) this.#onError(error);
      this.#told = error.message;
    }
  }

  take(): number | undefined {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#takenAt = performance.now();
    return connection;
  }

  stop(): void {
    this.#abort.abort();
  }

  close(): void {
    this.stop();
    const connection = this.take();
    if (connection !== undefined) closeFd(connection);
  }
}

function isNobody(error: unknown): boolean {
  return error instanceof VhostError && NOBODY.includes(error.code);
}
