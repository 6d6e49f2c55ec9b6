// The consumer that the records were made with: the transmit queue of a vsock device. It drops what
// it gets; what it says of each chain depends on its lengths alone.

import type { DeviceRing } from "#dist/ring/ring.js";
import type { RingTables } from "#dist/ring/tables.js";

/** A vsock header; a packet has one at least. */
const HEADER_BYTES = 44;
/** The longest packet's payload. */
const PAYLOAD_BYTES_MAX = 65536;
/** Entries after which a run ends, to be followed by another. Linux: VHOST_VSOCK_PKT_WEIGHT. */
const WEIGHT = 256;
/** Chains asked for at a time; the ring behaves as if it were 1. */
const BURST = 16;

/** What went to the driver's eventfds. */
export interface Signals {
  /** The error eventfd. */
  errors: number;
  /** The call eventfd. */
  calls: number;
}

/** Signals of the error eventfd for a chain that is swallowed; 0: it goes back. */
function complaints(outBytes: number, inBytes: number): number {
  if (inBytes > 0) return 2;
  return outBytes < HEADER_BYTES || outBytes > HEADER_BYTES + PAYLOAD_BYTES_MAX ? 1 : 0;
}

/** A device that consumes a ring whose policy is "linux". */
export class VsockTx {
  readonly #ring: DeviceRing;
  readonly #tables: RingTables;

  /** Over a ring that is started, or will be before the first kick. */
  constructor(ring: DeviceRing, tables: RingTables) {
    this.#ring = ring;
    this.#tables = tables;
  }

  /** Handles a kick to its end. Every error that the ring counts is a signal. */
  kick(): Signals {
    const signals = { errors: 0, calls: 0 };
    const before = this.#ringErrors();
    while (this.#run(signals)) {
      // It stopped at its weight: it comes back by itself.
    }
    signals.errors += this.#ringErrors() - before;
    return signals;
  }

  /** One run of the handler. True when it stopped at its weight. */
  #run(signals: Signals): boolean {
    const ring = this.#ring;
    let returned = 0;
    let taken = 0;
    ring.disableKick();
    while (taken < WEIGHT) {
      const got = ring.getDescs(Math.min(BURST, WEIGHT - taken));
      if (got < 0) break; // kicks stay disabled
      if (got === 0) {
        if (!ring.enableKick()) break;
        ring.disableKick();
        continue;
      }
      taken += got;
      returned += this.#consume(got, signals);
    }
    ring.publish();
    if (returned > 0 && ring.callNeeded()) signals.calls++;
    return taken >= WEIGHT;
  }

  /** Gives the chains of a burst back, or swallows them. @returns how many went back. */
  #consume(count: number, signals: Signals): number {
    let returned = 0;
    for (let i = 0; i < count; i++) {
      const errors = complaints(this.#tables.outBytes(i), this.#tables.inBytes(i));
      signals.errors += errors;
      if (errors > 0) continue;
      this.#ring.addUsed(this.#tables.head(i), 0);
      returned++;
    }
    return returned;
  }

  #ringErrors(): number {
    return Object.values(this.#tables.errorCounts()).reduce((sum, count) => sum + count, 0);
  }
}
