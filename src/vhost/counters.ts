import { DOORBELL_QUEUES_MAX } from "./notify.js";

const REQUESTS = 0;
const BYTES = 1;
const WORDS = 2;

/** What a queue has done since its worker began. */
export interface QueueCounts {
  /** Requests, malformed ones too. */
  requests: number;
  /** Bytes of their buffers. */
  bytes: number;
}

/** Counts of each queue of a worker: written by its thread, read by any. */
export class Counters {
  /** Send this to the other thread and make `Counters` of it there. */
  readonly buffer: SharedArrayBuffer;
  readonly #words: Float64Array;

  constructor(buffer = new SharedArrayBuffer(DOORBELL_QUEUES_MAX * WORDS * 8)) {
    this.buffer = buffer;
    this.#words = new Float64Array(buffer);
  }

  /** Worker: more was done. */
  add(queue: number, requests: number, bytes: number): void {
    const at = queue * WORDS;
    this.#words[at + REQUESTS] = (this.#words[at + REQUESTS] as number) + requests;
    this.#words[at + BYTES] = (this.#words[at + BYTES] as number) + bytes;
  }

  /** What all queues have done. */
  total(): QueueCounts {
    const total = { requests: 0, bytes: 0 };
    for (let at = 0; at < this.#words.length; at += WORDS) {
      total.requests += this.#words[at + REQUESTS] as number;
      total.bytes += this.#words[at + BYTES] as number;
    }
    return total;
  }
}
