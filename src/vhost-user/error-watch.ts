import { describeErrno } from "../linux/libc.js";
import type { Counters } from "../vhost/counters.js";
import type { VhostDev } from "../vhost/dev.js";
import type { VhostUserListener } from "./events.js";

/** How often errors are looked for, in milliseconds: what came between is one line. */
const WATCH_MS = 250;

/** Reports errors of a device's rings and of its I/O as events, while it lives. Main thread. */
export class ErrorWatch {
  readonly #dev: VhostDev;
  readonly #counters: Counters;
  readonly #onEvent: VhostUserListener;
  readonly #timer: NodeJS.Timeout;
  #ringErrors: Record<number, Record<string, number>> = {};
  readonly #failures: number[] = [];

  /** `counters`: of the device's worker. */
  constructor(dev: VhostDev, counters: Counters, onEvent: VhostUserListener) {
    this.#dev = dev;
    this.#counters = counters;
    this.#onEvent = onEvent;
    this.#timer = setInterval(() => this.#look(), WATCH_MS);
  }

  #look(): void {
    this.#lookAtRings();
    for (let queue = 0; queue < this.#dev.info.queueCount; queue++) this.#lookAtIo(queue);
  }

  /** What is new since the last look. */
  #lookAtRings(): void {
    const counts = this.#dev.errorCounts();
    for (const [queue, errors] of Object.entries(counts)) {
      const seen = this.#ringErrors[Number(queue)] ?? {};
      const fresh = Object.entries(errors)
        .map(([name, count]) => [name, count - (seen[name] ?? 0)] as const)
        .filter(([, count]) => count > 0);
      if (fresh.length === 0) continue;
      const event = "ring-error" as const;
      this.#onEvent({ event, queue: Number(queue), errors: Object.fromEntries(fresh) });
    }
    this.#ringErrors = counts;
  }

  #lookAtIo(queue: number): void {
    const { failures, lastErrno } = this.#counters.failuresOf(queue);
    const count = failures - (this.#failures[queue] ?? 0);
    if (count === 0) return;
    this.#failures[queue] = failures;
    const [code, why] = describeErrno(lastErrno);
    this.#onEvent({ event: "io-error", queue, count, lastError: `${code}: ${why}` });
  }

  /** Looks a last time, and ends. */
  close(): void {
    clearInterval(this.#timer);
    this.#look();
  }
}
