import { eventfdWaker } from "../kernel/eventfd-waker.js";
import type { Waker } from "../kernel/wait.js";
import type { DeviceHost } from "../vhost/device.js";
import type { ConsoleLink } from "./console-link.js";

/** Moves bytes between the ports' streams, in the opening thread, and the device in its worker. */
export class ConsoleHost {
  readonly #link: ConsoleLink;
  readonly #waker: Waker;
  #isClosed = false;

  /** Begins at once. `pump` moves what can be moved; whether anything was. */
  constructor(link: ConsoleLink, pump: () => boolean, { worker, wakeFd }: DeviceHost) {
    this.#link = link;
    this.#waker = eventfdWaker(worker.words, wakeFd);
    void link.hostBell.answer(pump, () => this.#isClosed);
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
