import { errno } from "../spec/errno.js";
import type { RequestWork, WorkQueue } from "./ring-ctx.js";
import { TABLE_SLOTS, type WorkTable } from "./work-table.js";

/** Work that waits for so long while all workers are at something brings another: see io-wq. */
const BLOCKED_MS = 1;

/**
 * The submitter's end of a work table, in the thread that enters the ring: it need not be the
 * kernel's. Results are found by `reap`. One thread.
 */
export class TableQueue implements WorkQueue {
  readonly #table: WorkTable;
  readonly #now: () => number;
  readonly #bySlot: (RequestWork | undefined)[] = new Array(TABLE_SLOTS).fill(undefined);
  /** What found no free slot. */
  #backlog: RequestWork[] = [];
  /** Work in slots. */
  #count = 0;
  #next = 0;
  /** Work put since the workers were woken. */
  #unkicked = 0;
  /** What `doneSeq` was when all had been looked at. */
  #seen: number;
  /** Since when work has waited with no result coming; -1: it does not. */
  #stuckSince = -1;

  /** `now`: a clock, in milliseconds. */
  constructor(table: WorkTable, now: () => number) {
    this.#table = table;
    this.#now = now;
    this.#seen = table.doneSeq;
  }

  /** Puts it in the table; `kick` makes workers look. Done at once, when that is closed. */
  enqueue(work: RequestWork): void {
    if (this.#table.isClosed) work.complete(-errno.ECANCELED);
    else if (this.#count === TABLE_SLOTS) this.#backlog.push(work);
    else this.#put(work);
  }

  #put(work: RequestWork): void {
    const { job, hostFd } = work.message;
    let slot = this.#next;
    while (this.#bySlot[slot] !== undefined) slot = (slot + 1) % TABLE_SLOTS;
    this.#next = (slot + 1) % TABLE_SLOTS;
    this.#bySlot[slot] = work;
    this.#count++;
    this.#table.put(slot, job, hostFd, work.hash ?? -1);
    this.#unkicked++;
    if (!this.#table.isClosed || !this.#table.takeBack(slot)) return;
    this.#forget(slot); // closed meanwhile: whoever did that may not have seen it
    work.complete(-errno.ECANCELED);
  }

  /** Wakes workers for what was put; asks for one where there is none. */
  kick(): void {
    if (this.#unkicked === 0) return;
    this.#table.kick(this.#unkicked);
    this.#unkicked = 0;
    if (!this.#table.hasWorker) this.#table.ask();
  }

  /** Whether results may wait for `reap`. */
  get isDone(): boolean {
    return this.#table.doneSeq !== this.#seen;
  }

  /** Completes what is done. Whether there was anything. */
  reap(): boolean {
    const { doneSeq } = this.#table;
    if (doneSeq === this.#seen) return false;
    this.#seen = doneSeq; // W3: before the look
    this.#stuckSince = -1;
    let isAny = false;
    for (let slot = 0; slot < TABLE_SLOTS; slot++) {
      const work = this.#bySlot[slot];
      const result = work && this.#table.reap(slot);
      if (work === undefined || result === undefined) continue;
      this.#forget(slot);
      isAny = true;
      work.complete(result);
    }
    this.#refill();
    this.kick();
    return isAny;
  }

  #forget(slot: number): void {
    this.#bySlot[slot] = undefined;
    this.#count--;
  }

  #refill(): void {
    while (this.#count < TABLE_SLOTS) {
      const work = this.#backlog.shift();
      if (work === undefined) return;
      this.#put(work);
    }
  }

  /**
   * Asks for another worker when work waits and nothing gets done. @returns in how many
   * milliseconds it should be called again; Infinity: when something was done or put.
   */
  tend(): number {
    if (this.#count === 0) return this.#notStuck();
    const { count, max } = this.#table.workers;
    if (count >= max || this.#table.hasIdle || !this.#isWaiting) return this.#notStuck();
    const now = this.#now();
    if (this.#stuckSince < 0) this.#stuckSince = now;
    if (count > 0 && now - this.#stuckSince < BLOCKED_MS) return BLOCKED_MS;
    this.#stuckSince = now;
    this.#table.ask();
    return BLOCKED_MS;
  }

  #notStuck(): number {
    this.#stuckSince = -1;
    return Number.POSITIVE_INFINITY;
  }

  get #isWaiting(): boolean {
    return this.#bySlot.some((work, slot) => work !== undefined && this.#table.isQueued(slot));
  }

  /** Linux: io_wq_cancel_cb(). */
  cancel(match: (work: RequestWork) => boolean): "cancelled" | "running" | "none" {
    const cancelled = new Set(this.#backlog.filter(match));
    this.#backlog = this.#backlog.filter((work) => !cancelled.has(work));
    let isRunning = false;
    for (const [slot, work] of this.#bySlot.entries()) {
      if (work === undefined || !match(work)) continue;
      if (this.#table.takeBack(slot)) {
        this.#forget(slot);
        cancelled.add(work);
      } else isRunning = true;
    }
    for (const work of cancelled) work.complete(-errno.ECANCELED);
    if (cancelled.size > 0) return "cancelled";
    return isRunning ? "running" : "none";
  }
}
