import { DOORBELL_QUEUES_MAX } from "./notify.js";

const REQUESTS = 0;
const BYTES = 1;
const FAILURES = 2;
const LAST_ERRNO = 3;
const WORDS = 4;

/** What a queue has done since its worker began. */
export interface QueueCounts {
  /** Requests. Chains that are malformed are none: the ring counts them, by what is wrong. */
  requests: number;
  /** Bytes of their buffers. */
  bytes: number;
  /** Requests that failed on the device's own side: its file could not be read, say. */
  failures: number;
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

  /** Worker: one failed, for a reason of the system's, an error number. */
  fail(queue: number, errno: number): void {
    const at = queue * WORDS;
    this.#words[at + LAST_ERRNO] = errno;
    this.#words[at + FAILURES] = (this.#words[at + FAILURES] as number) + 1;
  }

  /** What all queues have done. */
  total(): QueueCounts {
    const total = { requests: 0, bytes: 0, failures: 0 };
    for (let at = 0; at < this.#words.length; at += WORDS) {
      total.requests += this.#words[at + REQUESTS] as number;
      total.bytes += this.#words[at + BYTES] as number;
      total.failures += this.#words[at + FAILURES] as number;
    }
    return total;
  }

  /** How often a queue has failed, and the error number of the last time. */
  failuresOf(queue: number): { failures: number; lastErrno: number } {
    const at = queue * WORDS;
    const [failures = 0, lastErrno = 0] = [
      this.#words[at + FAILURES],
      this.#words[at + LAST_ERRNO],
    ];
    return { failures, lastErrno };
  }
}
