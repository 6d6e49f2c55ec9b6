import { setImmediate as nextTurn } from "node:timers/promises";
import type { Queue } from "./queue.js";
import type { Transport } from "./transport.js";

/** How long to look at the rings, a turn of the event loop at a time, before asking for calls. */
const POLL_MS = 0.1;
/** A sleep ends by itself after so long, in milliseconds, to look at the rings again. */
const SLEEP_MS = 1000;

/**
 * Fetches what the device has used, for all queues of a driver: polls a while, then waits for a
 * call. Runs only while requests are in flight. The event loop goes on between two looks.
 */
export class Completions {
  readonly #transport: Transport;
  readonly #queues: Queue[] = [];
  #isRunning = false;

  constructor(transport: Transport) {
    this.#transport = transport;
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

  #hasInFlight(): boolean {
    return this.#queues.some((queue) => !queue.isFailed && queue.inFlight > 0);
  }

  async #run(): Promise<void> {
    let pollUntil = performance.now() + POLL_MS;
    while (this.#hasInFlight()) {
      const seen = this.#transport.callSequence();
      if (this.#poll()) pollUntil = performance.now() + POLL_MS;
      else if (performance.now() >= pollUntil) await this.#sleep(seen);
      await nextTurn();
    }
    this.#isRunning = false;
  }

  #poll(): boolean {
    let isAny = false;
    for (const queue of this.#queues) if (!queue.isFailed && queue.poll()) isAny = true;
    return isAny;
  }

  /** First the calls are asked for, then the rings looked at once more, then it sleeps. */
  async #sleep(seen: number): Promise<void> {
    const live = this.#queues.filter((queue) => !queue.isFailed);
    const isBusy = live.map((queue) => queue.enableCall()).includes(true);
    if (!isBusy) await this.#transport.waitCall(seen, SLEEP_MS);
    for (const queue of live) if (!queue.isFailed) queue.disableCall(); // it may be gone by now
  }
}
