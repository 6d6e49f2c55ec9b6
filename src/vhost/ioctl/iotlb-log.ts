import { hasFeature } from "../../spec/features.js";
import { VHOST_F_LOG_ALL } from "../../spec/vhost.js";
import type { UserMemory } from "../user-access.js";
import { PAGE, PAGES_A_BYTE } from "./access.js";
import type { LiveSetup } from "./user-live-ring.js";

/** A run of the program's memory that was written. */
export interface Written {
  readonly uaddr: bigint;
  readonly bytes: number;
}

/**
 * The dirty log of a ring with translations: pages that it wrote are marked, if one is kept, by
 * each region of the memory table that has them. Any thread. Linux: vhost_log_write(),
 * log_write_hva().
 */
export class IotlbLog {
  /** What the ring writes is logged. */
  readonly isOn: boolean;
  /** So is what it writes to its used ring. */
  readonly hasUsed: boolean;
  readonly #bytes: Uint8Array<ArrayBufferLike>;
  readonly #user: UserMemory;
  readonly #setup: LiveSetup;

  constructor(memory: WebAssembly.Memory, user: UserMemory, setup: LiveSetup) {
    this.#bytes = new Uint8Array(memory.buffer);
    this.#user = user;
    this.#setup = setup;
    this.isOn = hasFeature(setup.features, VHOST_F_LOG_ALL);
    this.hasUsed = this.isOn && setup.log.used !== undefined;
  }

  /** Marks the pages of all of it. */
  mark(pieces: readonly Written[]): void {
    for (const { uaddr, bytes } of pieces) {
      const end = uaddr + BigInt(bytes);
      for (const region of this.#setup.regions) {
        const start = uaddr > region.user ? uaddr : region.user;
        const regionEnd = region.user + region.bytes;
        const stop = end < regionEnd ? end : regionEnd;
        if (start < stop) this.#mark(region.guest + (start - region.user), stop - start);
      }
    }
  }

  /** Bits of pages, one after the other; where the log is not mapped, nothing is marked. */
  #mark(guest: bigint, bytes: bigint): void {
    const last = (guest + bytes - 1n) / PAGE;
    for (let page = guest / PAGE; page <= last; page++) {
      const at = this.#setup.log.base + page / PAGES_A_BYTE;
      if (!this.#user.isWritable(at, 1n)) return;
      Atomics.or(this.#bytes, Number(at), 1 << Number(page % PAGES_A_BYTE));
    }
  }
}
