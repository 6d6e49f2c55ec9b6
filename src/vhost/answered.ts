import { BURST_MAX } from "../ring/state-block.js";
import type { RingTables } from "../ring/tables.js";
import { VQ_IOV_CAPACITY } from "../spec/ring-state.js";
import type { HeldChain } from "./chain.js";

/** Chains that a device has held, answered, and not given back yet. Worker thread. */
export class AnsweredChains {
  readonly #tables: RingTables;
  readonly #chains: HeldChain[] = [];

  constructor(tables: RingTables) {
    this.#tables = tables;
  }

  /** How many there are. */
  get length(): number {
    return this.#chains.length;
  }

  /** One more, to which `written` bytes were written. Throws TypeError for an answered one. */
  add(chain: HeldChain, written: number): void {
    if (chain.isAnswered) throw new TypeError("a held chain is answered once");
    chain.isAnswered = true;
    chain.written = Math.min(written, chain.inBytes);
    this.#chains.push(chain);
  }

  /**
   * Writes as many records as there is room for, for `addUsedN`, and forgets these chains; how
   * many. The tables are free between two bursts.
   */
  stage(): number {
    const tables = this.#tables;
    const iovCapacity = tables.word(VQ_IOV_CAPACITY);
    let iov = 0;
    let count = 0;
    for (const chain of this.#chains) {
      const pieces = chain.outCount + chain.inCount;
      if (count === BURST_MAX || iov + pieces > iovCapacity) break;
      for (let i = 0; i < pieces; i++) {
        tables.setIov(iov + i, chain.iovAddress(i), chain.iovLength(i));
      }
      tables.setUsed(count, iov, chain);
      tables.setUsedBytes(count++, chain.written);
      iov += pieces;
    }
    this.#chains.splice(0, count);
    return count;
  }
}
