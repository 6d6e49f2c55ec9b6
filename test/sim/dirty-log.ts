import type { Piece } from "#dist/driver/queue.js";
import type { SharedMemory } from "#dist/memory/shared-memory.js";
import { LOG_PAGE_SHIFT } from "#dist/spec/ring-state.js";
import { must } from "./world.js";

/** A dirty log as a front-end has one that copies memory while the guest runs. */
export class DirtyPages {
  readonly #shared: SharedMemory;
  /** Page of the first byte of guest memory. */
  readonly #first: number;
  readonly #pages: number;
  /** By page: when it was last found marked. */
  readonly #takenAt: number[] = [];
  /** For the product. */
  readonly log: { address: number; bytes: number };

  constructor(shared: SharedMemory) {
    this.#shared = shared;
    this.#first = Number(shared.toGuest(shared.guestStart) >> BigInt(LOG_PAGE_SHIFT));
    this.#pages = shared.guestBytes >>> LOG_PAGE_SHIFT;
    const bytes = (this.#first + this.#pages) >>> 3;
    this.log = { address: shared.allocHost(bytes), bytes };
  }

  /** Takes the marks: they are cleared. */
  take(now: number): void {
    for (let page = 0; page < this.#pages; page++) {
      if (this.#isMarked(page)) this.#takenAt[page] = now;
    }
    const start = this.log.address + (this.#first >>> 3);
    this.#shared.bytes.fill(0, start, this.log.address + this.log.bytes);
  }

  #isMarked(page: number): boolean {
    const bit = this.#first + page;
    const byte = this.#shared.bytes[this.log.address + (bit >>> 3)] as number;
    return (byte & (1 << (bit & 7))) !== 0;
  }

  #pagesOf({ address, length }: Piece): number[] {
    const { guestStart } = this.#shared;
    const first = (address - guestStart) >>> LOG_PAGE_SHIFT;
    const last = (address + length - 1 - guestStart) >>> LOG_PAGE_SHIFT;
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  }

  /** Whether it is marked, or was when the marks were taken since `since`. */
  #isKnown(page: number, since: number): boolean {
    return this.#isMarked(page) || (this.#takenAt[page] ?? -1) >= since;
  }

  /** These pieces were written since `since`, all of them. */
  check(pieces: readonly Piece[], since: number, what: string): void {
    for (const page of pieces.flatMap((piece) => this.#pagesOf(piece))) {
      const isKnown = this.#isKnown(page, since);
      must(isKnown, `${what}: page ${page} was written, and is not in the dirty log`);
    }
  }

  /** Something in this piece of a ring was written since `since`. */
  checkRing(piece: Piece, since: number, what: string): void {
    const isKnown = this.#pagesOf(piece).some((page) => this.#isKnown(page, since));
    must(isKnown, `${what}: its ring was written, and is not in the dirty log`);
  }

  /** Gives the memory back. */
  release(): void {
    this.#shared.host.free(this.log.address);
  }
}
