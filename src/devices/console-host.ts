import { setImmediate as nextTurn } from "node:timers/promises";
import { Waker } from "../kernel/wait.js";
import { signalEventfd } from "../linux/eventfd.js";
import type { DeviceHost } from "../vhost/device.js";
import type { ConsoleLink } from "./console-link.js";

/** How long to look for bytes, a turn of the event loop at a time, before waiting for them. */
const POLL_MS = 0.1;

/** Moves bytes between the ports' streams, in the opening thread, and the device in its worker. */
export class ConsoleHost {
  readonly #link: ConsoleLink;
  readonly #pump: () => boolean;
  readonly #waker: Waker;
  #isClosed = false;

  /** Begins at once. `pump` moves what can be moved; whether anything was. */
  constructor(link: ConsoleLink, pump: () => boolean, { worker, wakeFd }: DeviceHost) {
    this.#link = link;
    this.#pump = pump;
    const alsoWake = wakeFd === undefined ? undefined : () => signalEventfd(wakeFd);
    this.#waker = new Waker(worker.words, alsoWake);
    void this.#run();
  }

  async #run(): Promise<void> {
    let pollUntil = 0;
    while (!this.#isClosed) {
      const seen = this.#link.hostBell.sequence; // before it looks
      if (this.#pump()) pollUntil = performance.now() + POLL_MS;
      else if (performance.now() >= pollUntil) {
        await this.#link.hostBell.wait(seen);
        continue;
      }
      await nextTurn();
    }
  }

  /** The worker has something to look at: published before. */
  wake(): void {
    this.#waker.wake();
  }

  /** The device is gone. Idempotent. */
  close(): void {
    this.#isClosed = true;
    this.#link.hostBell.ring(); // ends the wait
  }
}
