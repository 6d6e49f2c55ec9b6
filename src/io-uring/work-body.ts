import type { Job, Range } from "./ops.js";

// A slot's body.
const KIND = 0;
const HOST_FD = 1;
const HASH = 2;
const RESULT = 3;
/** Two words each: a number in 64 bits of floating point. NaN: the file's own position. */
const POSITION = 4;
const LENGTH = 6;
const FLAGS = 8;
const MODE = 9;
/** How many ranges follow, or bytes of a path. */
const COUNT = 10;
const RANGES = 12;
const RANGES_MAX = 1024;
/** Words of a body. */
export const WORK_BODY_WORDS = RANGES + 2 * RANGES_MAX;

const KINDS: readonly Job["kind"][] = ["none", "read", "write", "sync", "open", "fallocate"];

/**
 * The bodies of a work table's slots: jobs as words. Who may touch which when is the table's
 * business.
 */
export class WorkBodies {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #floats: Float64Array<SharedArrayBuffer>;
  readonly #bytes: Uint8Array<SharedArrayBuffer>;
  readonly #start: number;

  /** `start`: word of the first one, even. */
  constructor(buffer: SharedArrayBuffer, start: number) {
    this.#words = new Int32Array(buffer);
    this.#floats = new Float64Array(buffer);
    this.#bytes = new Uint8Array(buffer);
    this.#start = start;
  }

  /** Writes what is to be done, and to which file. */
  write(slot: number, job: Job, hostFd: number, hash: number): void {
    const body = this.#at(slot);
    this.#words[body + KIND] = KINDS.indexOf(job.kind);
    this.#words[body + HOST_FD] = hostFd;
    this.#words[body + HASH] = hash;
    switch (job.kind) {
      case "read":
      case "write":
        this.#floats[(body + POSITION) >> 1] = job.position ?? Number.NaN;
        this.#writeRanges(body, job.ranges);
        return;
      case "sync":
        this.#words[body + FLAGS] = Number(job.isDataOnly);
        return;
      case "fallocate":
        this.#floats[(body + POSITION) >> 1] = job.position;
        this.#floats[(body + LENGTH) >> 1] = job.bytes;
        this.#words[body + MODE] = job.mode;
        return;
      case "open":
        this.#words[body + FLAGS] = job.flags;
        this.#words[body + MODE] = job.mode;
        this.#writePath(body, job.path);
    }
  }

  #writeRanges(body: number, ranges: readonly Range[]): void {
    this.#words[body + COUNT] = ranges.length;
    let at = body + RANGES;
    for (const { address, bytes } of ranges) {
      this.#words[at++] = address;
      this.#words[at++] = bytes;
    }
  }

  #writePath(body: number, path: string): void {
    const bytes = new TextEncoder().encode(path);
    this.#words[body + COUNT] = bytes.length;
    this.#bytes.set(bytes, (body + RANGES) * 4);
  }

  /** What is to be done, and to which file. */
  read(slot: number): { job: Job; hostFd: number } {
    const body = this.#at(slot);
    return { job: this.#readJob(body), hostFd: this.#words[body + HOST_FD] as number };
  }

  /** Bucket of its hash; -1: none. */
  hash(slot: number): number {
    return this.#words[this.#at(slot) + HASH] as number;
  }

  /** What came of it. */
  result(slot: number): number {
    return this.#words[this.#at(slot) + RESULT] as number;
  }

  setResult(slot: number, result: number): void {
    this.#words[this.#at(slot) + RESULT] = result;
  }

  /** Where a slot's body begins: at an even word. */
  #at(slot: number): number {
    return this.#start + slot * WORK_BODY_WORDS;
  }

  #readJob(body: number): Job {
    const kind = KINDS[this.#words[body + KIND] as number] ?? "none";
    const flags = this.#words[body + FLAGS] as number;
    const mode = this.#words[body + MODE] as number;
    const position = this.#floats[(body + POSITION) >> 1] as number;
    switch (kind) {
      case "read":
      case "write": {
        const own = Number.isNaN(position);
        return { kind, ranges: this.#readRanges(body), position: own ? null : position };
      }
      case "sync":
        return { kind, isDataOnly: flags !== 0 };
      case "fallocate":
        return { kind, mode, position, bytes: this.#floats[(body + LENGTH) >> 1] as number };
      case "open": {
        const start = (body + RANGES) * 4;
        const bytes = this.#bytes.slice(start, start + (this.#words[body + COUNT] as number));
        return { kind, path: new TextDecoder().decode(bytes), flags, mode };
      }
      default:
        return { kind: "none" };
    }
  }

  #readRanges(body: number): Range[] {
    const ranges: Range[] = [];
    const end = body + RANGES + 2 * (this.#words[body + COUNT] as number);
    for (let at = body + RANGES; at < end; at += 2) {
      const address = (this.#words[at] as number) >>> 0;
      ranges.push({ address, bytes: (this.#words[at + 1] as number) >>> 0 });
    }
    return ranges;
  }
}
