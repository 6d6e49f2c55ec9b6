import { setImmediate as nextTurn } from "node:timers/promises";
import type { Queue } from "./queue.js";
import type { Transport } from "./transport.js";

/** How long to look at the rings, a turn of the event loop at a time, before asking for calls. */
const POLL_MS = 0.1;
/** A sleep ends by itself after so long, in milliseconds, to look at the rings again. */
export const SLEEP_MS = 1000;

/**
 * Fetches what the device has used, for all queues of a driver: polls a while, then waits for a
 * call. Runs only while requests are in flight. The event loop goes on between two looks.
 */
export class Completions {
  readonly #transport: Transport;
  readonly #queues: Queue[] = [];
  readonly #now: () => number;
  #isRunning = false;
  #pollUntil = 0;
  /** Queues that were asked to call. */
  #asked: Queue[] = [];

  /** `now`: a clock, in milliseconds. */
  constructor(transport: Transport, now = () => performance.now()) {
    this.#transport = transport;
    this.#now = now;
  }

  /** Adds a queue. */
  add(queue: Queue): void {
    this.#queues.push(queue);
  }

  /** There may be requests in flight. */
  start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    this.begin();
    while (this.hasInFlight) {
      const seen = this.#transport.callSequence();
      if (this.look()) {
        await this.#transport.waitCall(seen, SLEEP_MS);
        this.wake();
      }
      await nextTurn();
    }
    this.#isRunning = false;
  }

  /** Whether there is something to wait for. */
  get hasInFlight(): boolean {
    return this.#queues.some((queue) => !queue.isFailed && queue.inFlight > 0);
  }

  /** Begins to poll: there may be requests in flight. */
  begin(): void {
    this.#pollUntil = this.#now() + POLL_MS;
  }

  /**
   * Looks at the rings once. After a while without success: first the calls are asked for, then the
   * rings looked at once more. True: there is nothing, so the caller sleeps until a call since
   * before this look, and calls `wake` then.
   */
  look(): boolean {
    if (this.#poll()) this.begin();
    else if (this.#now() >= this.#pollUntil) {
      this.#asked = this.#queues.filter((queue) => !queue.isFailed);
      const isBusy = this.#asked.map((queue) => queue.enableCall()).includes(true);
      if (!isBusy) return true;
      this.wake();
    }
    return false;
  }

  /** After a sleep: no calls while it polls. */
  wake(): void {
    for (const queue of this.#asked) if (!queue.isFailed) queue.disableCall(); // it may be gone
  }

  #poll(): boolean {
    let isAny = false;
    for (const queue of this.#queues) if (!queue.isFailed && queue.poll()) isAny = true;
    return isAny;
  }
}
