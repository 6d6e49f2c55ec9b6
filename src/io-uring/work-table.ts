import { IO_WQ_HASH_BUCKETS } from "./io-work.js";
import type { Job } from "./ops.js";
import { WORK_BODY_WORDS, WorkBodies } from "./work-body.js";

/** Io workers that one table serves, at most. */
export const TABLE_WORKERS_MAX = 32;
/** Pieces of work that are queued or done at a time. */
export const TABLE_SLOTS = 128;

// Int32 indices. Who writes a word is said with it.
/** Bumped when there is something to look at for workers, which sleep on it. */
const WORK_SEQ = 0;
/** Bumped when work is done; the submitter may sleep on it. */
const DONE_SEQ = 1;
/** Bumped to ask for a worker; the maker sleeps on it. */
const ASK_SEQ = 2;
/** The question that was answered last. The maker's. */
const ASK_ANSWERED = 3;
/** Most workers. The maker's. */
const WORKERS_MAX = 4;
/** Not 0: no work is taken any more. The maker's. */
const IS_CLOSED = 5;
/** Who does work of a hash: 0, or a worker's number and 1. */
const HASHES = 16;
/** What each worker does: WORKER_… */
const STATES_OF_WORKERS = HASHES + IO_WQ_HASH_BUCKETS;
/** What becomes of each slot: SLOT_…, or SLOT_DOING and the number of who does it. */
const STATES = STATES_OF_WORKERS + TABLE_WORKERS_MAX;
const BODIES = STATES + TABLE_SLOTS;

const SLOT_FREE = 0;
const SLOT_QUEUED = 1;
const SLOT_DONE = 2;
const SLOT_DOING = 16;

const WORKER_NONE = 0;
const WORKER_STARTING = 1;
const WORKER_IDLE = 2;
const WORKER_BUSY = 3;
const WORKER_LEAVING = 4;

/**
 * Work for io workers, in memory that all its threads share and no guest can reach: slots that one
 * thread fills (the submitter), workers take and do, and the submitter empties. No locks: a thread
 * that is killed anywhere leaves nothing locked, for whoever takes something writes his number with
 * it. A third thread, the maker, makes the workers, and ends what those that die were at.
 *
 * Pairs: W1, a slot's body is written before its state is SLOT_QUEUED, and read after it was taken.
 * W2, its result is written before SLOT_DONE. W3, a state is changed before the number that the
 * other side sleeps on, and that is read before the states are looked at. Linux: io_wq.
 */
export class WorkTable {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #bodies: WorkBodies;

  /** `buffer`: one that another thread made; without it, a new table. */
  constructor(buffer = new SharedArrayBuffer((BODIES + TABLE_SLOTS * WORK_BODY_WORDS) * 4)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.#bodies = new WorkBodies(buffer, BODIES);
  }

  // ── the submitter ─────────────────────────────────────────────────────────────────────────────

  /** Fills a free slot; workers see it after `kick`. */
  put(slot: number, job: Job, hostFd: number, hash: number): void {
    this.#bodies.write(slot, job, hostFd, hash);
    this.#store(STATES + slot, SLOT_QUEUED); // W1
  }

  /** Wakes workers for `count` pieces of work. */
  kick(count: number): void {
    Atomics.add(this.#words, WORK_SEQ, 1); // W3
    Atomics.notify(this.#words, WORK_SEQ, count);
  }

  /** Takes a queued slot back; false: it is being done, or is done. */
  takeBack(slot: number): boolean {
    return this.#swap(STATES + slot, SLOT_QUEUED, SLOT_FREE);
  }

  /** The result of a slot that is done, which then is free; `undefined`: it is not. */
  reap(slot: number): number | undefined {
    if (this.#load(STATES + slot) !== SLOT_DONE) return undefined;
    const result = this.#bodies.result(slot);
    this.#store(STATES + slot, SLOT_FREE);
    return result;
  }

  /** Read it before looking for results: `waitDone` takes it. */
  get doneSeq(): number {
    return this.#load(DONE_SEQ);
  }

  /** Sleeps until something is done after `seen` was read, or for `ms`. Blocks. */
  waitDone(seen: number, ms: number): void {
    Atomics.wait(this.#words, DONE_SEQ, seen, ms);
  }

  /** Whether any of `slots` waits for a worker. */
  isQueued(slot: number): boolean {
    return this.#load(STATES + slot) === SLOT_QUEUED;
  }

  /** Whether a worker has nothing to do, or is on its way. */
  get hasIdle(): boolean {
    return this.#someWorker((state) => state === WORKER_IDLE || state === WORKER_STARTING);
  }

  /** Workers that are there or being made, counted by their own words, and the most that may. */
  get workers(): { count: number; max: number } {
    let count = 0;
    for (let worker = 0; worker < TABLE_WORKERS_MAX; worker++) {
      if (this.#load(STATES_OF_WORKERS + worker) !== WORKER_NONE) count++;
    }
    return { count, max: this.#load(WORKERS_MAX) };
  }

  /** Whether there is a worker, or one is being made. */
  get hasWorker(): boolean {
    return this.#someWorker((state) => state !== WORKER_NONE);
  }

  #someWorker(is: (state: number) => boolean): boolean {
    for (let worker = 0; worker < TABLE_WORKERS_MAX; worker++) {
      if (is(this.#load(STATES_OF_WORKERS + worker))) return true;
    }
    return false;
  }

  /** Asks the maker for a worker, or, where none can be made, for the end of what is queued. */
  ask(): void {
    if (this.#load(ASK_SEQ) !== this.#load(ASK_ANSWERED)) return;
    Atomics.add(this.#words, ASK_SEQ, 1);
    Atomics.notify(this.#words, ASK_SEQ);
  }

  get isClosed(): boolean {
    return this.#load(IS_CLOSED) !== 0;
  }

  // ── a worker ──────────────────────────────────────────────────────────────────────────────────

  /** Read it before looking for work: `sleep` takes it. */
  get workSeq(): number {
    return this.#load(WORK_SEQ);
  }

  /**
   * `worker` looks for work: a slot that only it has now, or -1. One that leaves goes on leaving
   * when it finds none, and stays when it does.
   */
  take(worker: number, after: number): number {
    const state = STATES_OF_WORKERS + worker;
    if (this.#load(state) !== WORKER_LEAVING) this.#store(state, WORKER_BUSY);
    for (let i = 1; i <= TABLE_SLOTS; i++) {
      const slot = (after + i) % TABLE_SLOTS;
      if (this.#load(STATES + slot) !== SLOT_QUEUED || !this.#claim(worker, slot)) continue;
      this.#store(state, WORKER_BUSY);
      return slot;
    }
    return -1;
  }

  /** First the hash, then the slot: of two pieces of work with one hash, one is done at a time. */
  #claim(worker: number, slot: number): boolean {
    const hash = this.#bodies.hash(slot);
    if (hash >= 0 && !this.#swap(HASHES + hash, 0, worker + 1)) return false;
    if (this.#swap(STATES + slot, SLOT_QUEUED, SLOT_DOING + worker)) {
      if (hash === this.#bodies.hash(slot)) return true;
      this.#store(STATES + slot, SLOT_QUEUED); // other work came into the slot meanwhile
    }
    if (hash >= 0) this.#swap(HASHES + hash, worker + 1, 0);
    return false;
  }

  /** What is to be done, and to which file. W1. */
  job(slot: number): { job: Job; hostFd: number } {
    return this.#bodies.read(slot);
  }

  /**
   * It was done. The submitter is to be woken. What waited for its hash may be another's: `worker`
   * may come upon other work first. Linux: io_wq_hash_wake().
   */
  finish(worker: number, slot: number, result: number): void {
    const hash = this.#bodies.hash(slot);
    this.#bodies.setResult(slot, result);
    this.#store(STATES + slot, SLOT_DONE); // W2
    if (hash >= 0 && this.#swap(HASHES + hash, worker + 1, 0) && this.hasQueued) this.kick(1);
    this.#bumpDone();
  }

  /** Sleeps until there may be work, since `seen` was read. False: not within `ms`. Blocks. */
  sleep(worker: number, seen: number, ms: number): boolean {
    this.#store(STATES_OF_WORKERS + worker, WORKER_IDLE);
    return Atomics.wait(this.#words, WORK_SEQ, seen, ms) !== "timed-out";
  }

  /** `worker` is held: whoever is not looks for work. */
  rest(worker: number): void {
    this.#store(STATES_OF_WORKERS + worker, WORKER_IDLE);
    if (this.hasQueued) this.kick(1);
  }

  /**
   * `worker` is to go, unless it is the last. It looks for work once more, see `take`, and ends if
   * there is none: it counts until it is buried. Of two that would go at once, one stays at least.
   */
  leave(worker: number): boolean {
    const state = STATES_OF_WORKERS + worker;
    this.#store(state, WORKER_LEAVING); // before the look at the others
    if (this.#someWorker((its) => its !== WORKER_NONE && its !== WORKER_LEAVING)) return true;
    this.#store(state, WORKER_BUSY);
    return false;
  }

  // ── the maker ─────────────────────────────────────────────────────────────────────────────────

  set workersMax(max: number) {
    this.#store(WORKERS_MAX, Math.min(max, TABLE_WORKERS_MAX));
  }

  /** The number of a worker to be made; -1: there are as many as may be. */
  admit(): number {
    const { count, max } = this.workers;
    if (count >= max) return -1;
    for (let worker = 0; worker < TABLE_WORKERS_MAX; worker++) {
      if (this.#swap(STATES_OF_WORKERS + worker, WORKER_NONE, WORKER_STARTING)) return worker;
    }
    return -1;
  }

  /** Whether a worker that was admitted has looked for work. */
  hasBegun(worker: number): boolean {
    return this.#load(STATES_OF_WORKERS + worker) !== WORKER_STARTING;
  }

  /** A worker has ended, or was not made: what it was at ends with `result`. */
  buried(worker: number, result: number): void {
    for (let slot = 0; slot < TABLE_SLOTS; slot++) {
      if (this.#load(STATES + slot) === SLOT_DOING + worker) this.#end(slot, result);
    }
    for (let hash = 0; hash < IO_WQ_HASH_BUCKETS; hash++) this.#swap(HASHES + hash, worker + 1, 0);
    this.#store(STATES_OF_WORKERS + worker, WORKER_NONE);
    this.#bumpDone();
    this.kick(TABLE_WORKERS_MAX); // what waited for its hash
  }

  /** Ends all that is queued, with `result`. */
  endQueued(result: number): void {
    for (let slot = 0; slot < TABLE_SLOTS; slot++) {
      if (this.#swap(STATES + slot, SLOT_QUEUED, SLOT_DOING - 1)) this.#end(slot, result);
    }
    this.#bumpDone();
  }

  #end(slot: number, result: number): void {
    this.#bodies.setResult(slot, result);
    this.#store(STATES + slot, SLOT_DONE); // W2
  }

  /** Whether anything is queued. */
  get hasQueued(): boolean {
    for (let slot = 0; slot < TABLE_SLOTS; slot++) if (this.isQueued(slot)) return true;
    return false;
  }

  /** The question that stands. */
  get askSeq(): number {
    return this.#load(ASK_SEQ);
  }

  /** Resolves when there is another question than `answered`. */
  async asked(answered: number): Promise<void> {
    this.#store(ASK_ANSWERED, answered);
    const wait = Atomics.waitAsync(this.#words, ASK_SEQ, answered);
    if (wait.async) await wait.value;
  }

  /** No work from now on; whoever sleeps wakes. */
  close(): void {
    this.#store(IS_CLOSED, 1);
    Atomics.add(this.#words, ASK_SEQ, 1);
    Atomics.notify(this.#words, ASK_SEQ);
    this.kick(TABLE_WORKERS_MAX);
  }

  #bumpDone(): void {
    Atomics.add(this.#words, DONE_SEQ, 1); // W3
    Atomics.notify(this.#words, DONE_SEQ);
  }

  #load(word: number): number {
    return Atomics.load(this.#words, word);
  }

  #store(word: number, value: number): void {
    Atomics.store(this.#words, word, value);
  }

  #swap(word: number, from: number, to: number): boolean {
    return Atomics.compareExchange(this.#words, word, from, to) === from;
  }
}
