import { randomFillSync } from "node:crypto";

/** Entries that an address may be in: those of one bucket. */
const WAYS = 8;
/** Entries of a bucket that one port may have: it can't push out all that others have. */
const WAYS_A_PORT = 4;
const BUCKETS = 512;

// Words of an entry.
/** The address's last four bytes. */
const LOW = 0;
/** Its first two, and the VLAN. */
const HIGH = 1;
/** The port, and 1; 0: none. */
const PORT = 2;
/** What the three above make: see `checkOf`. */
const CHECK = 3;
/** When it was last heard, in seconds. */
const SEEN = 4;
const ENTRY_WORDS = 5;
/** In front: the number that makes a bucket out of an address, so that nobody can aim at one. */
const SEED = 0;
const START = 1;

/** Bytes of shared memory that a table takes. */
export const NET_TABLE_BYTES = 4 * (START + BUCKETS * WAYS * ENTRY_WORDS);

function mix(low: number, high: number, seed: number): number {
  let hash = Math.imul(low ^ seed, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 15) ^ high, 0x85ebca77);
  return hash ^ (hash >>> 13);
}

const checkOf = (low: number, high: number, port: number) =>
  mix(low, high, Math.imul(port, 0xc2b2ae3d)) | 0;

/** An address that was heard. */
export interface NetTableEntry {
  mac: Uint8Array;
  vlan: number;
  port: number;
  /** When it was last heard, in seconds. */
  seen: number;
}

/**
 * Which address is at which port, in memory that the workers of all ports share. Any of them writes
 * at any time, without a lock: an entry carries a check of what it says, so that one which two
 * wrote at once says nothing, and its packets go to all ports until it is heard again. A port that
 * claims more addresses than its part of a bucket gives up its own first. An address is two words:
 * its last four bytes; its first two, and the VLAN above them.
 */
export class NetTable {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #seed: number;

  /** `buffer`: zeroes, or another thread's table. */
  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
    if (this.#words[SEED] === 0) this.#words[SEED] = randomFillSync(new Int32Array(1))[0] || 1;
    this.#seed = this.#words[SEED] as number;
  }

  #bucket(low: number, high: number): number {
    const bucket = mix(low, high, this.#seed) & (BUCKETS - 1);
    return START + bucket * WAYS * ENTRY_WORDS;
  }

  /** A word of an entry. */
  #at(entry: number, word: number): number {
    return this.#words[entry + word] as number;
  }

  /** Where the address's entry is, or -1. Whether it is sound is for the caller to see. */
  #find(low: number, high: number): number {
    const bucket = this.#bucket(low, high);
    for (let way = 0; way < WAYS; way++) {
      const entry = bucket + way * ENTRY_WORDS;
      if (this.#at(entry, LOW) === low && this.#at(entry, HIGH) === high) return entry;
    }
    return -1;
  }

  /** The port of an address that was heard at `oldest`, in seconds, or after; -1: not known. */
  lookup(low: number, high: number, oldest: number): number {
    const entry = this.#find(low | 0, high | 0);
    if (entry < 0) return -1;
    const port = this.#at(entry, PORT);
    const isSound = this.#at(entry, CHECK) === checkOf(low | 0, high | 0, port);
    return isSound && this.#at(entry, SEEN) >= oldest ? port - 1 : -1;
  }

  /** The address was heard at `port`, now; entries from before `oldest` are free. In seconds. */
  learn(low: number, high: number, port: number, now: number, oldest: number): void {
    let entry = this.#find(low | 0, high | 0);
    if (entry < 0) entry = this.#victim(low | 0, high | 0, port + 1, oldest);
    const words = this.#words;
    if (this.#at(entry, SEEN) !== now) words[entry + SEEN] = now;
    const check = checkOf(low | 0, high | 0, port + 1);
    if (this.#at(entry, CHECK) === check && this.#at(entry, PORT) === port + 1) {
      if (this.#at(entry, LOW) === (low | 0) && this.#at(entry, HIGH) === (high | 0)) return;
    }
    words[entry + CHECK] = ~check; // says nothing until it is whole
    words[entry + LOW] = low;
    words[entry + HIGH] = high;
    words[entry + PORT] = port + 1;
    words[entry + CHECK] = check;
  }

  /** The entry to write over: a free one; of who has most, this port before others, the oldest. */
  #victim(low: number, high: number, value: number, oldest: number): number {
    const bucket = this.#bucket(low, high);
    let most = this.#shareOf(bucket, value, oldest);
    let greedy = value;
    if (most >= WAYS_A_PORT) return this.#oldestOf(bucket, value);
    for (let way = 0; way < WAYS; way++) {
      const entry = bucket + way * ENTRY_WORDS;
      const owner = this.#at(entry, PORT);
      if (owner === 0 || this.#at(entry, SEEN) < oldest) return entry;
      const share = this.#shareOf(bucket, owner, oldest);
      if (share > most) [most, greedy] = [share, owner];
    }
    return this.#oldestOf(bucket, greedy);
  }

  #shareOf(bucket: number, value: number, oldest: number): number {
    let share = 0;
    for (let way = 0; way < WAYS; way++) {
      const entry = bucket + way * ENTRY_WORDS;
      if (this.#at(entry, PORT) === value && this.#at(entry, SEEN) >= oldest) share++;
    }
    return share;
  }

  #oldestOf(bucket: number, value: number): number {
    let oldest = bucket;
    let seen = Number.POSITIVE_INFINITY;
    for (let way = 0; way < WAYS; way++) {
      const entry = bucket + way * ENTRY_WORDS;
      if (this.#at(entry, PORT) !== value || this.#at(entry, SEEN) >= seen) continue;
      oldest = entry;
      seen = this.#at(entry, SEEN);
    }
    return oldest;
  }

  /** All that is known, in no order. */
  entries(oldest: number): NetTableEntry[] {
    const found: NetTableEntry[] = [];
    for (let at = START; at < this.#words.length; at += ENTRY_WORDS) {
      const [low, high, port] = [this.#at(at, LOW), this.#at(at, HIGH), this.#at(at, PORT)];
      const seen = this.#at(at, SEEN);
      const isSound = port > 0 && this.#at(at, CHECK) === checkOf(low, high, port);
      if (!isSound || seen < oldest) continue;
      const mac = new Uint8Array(6);
      new DataView(mac.buffer).setUint16(0, high & 0xffff);
      new DataView(mac.buffer).setUint32(2, low >>> 0);
      found.push({ mac, vlan: high >>> 16, port: port - 1, seen });
    }
    return found;
  }

  /** A port forgets all that was heard at it. */
  forget(port: number): void {
    for (let at = START; at < this.#words.length; at += ENTRY_WORDS) {
      if (this.#at(at, PORT) === port + 1) this.#words[at + PORT] = 0;
    }
  }
}
