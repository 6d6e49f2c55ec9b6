import { VhostError } from "../spec/errno.js";

// What the threads of a machine share of its control groups: for each group a row of i64, times in
// microseconds. Linux: cfs_bandwidth, cgroup_base_stat.
const PARENT = 0;
const USAGE = 1;
/** -1: no limit. */
const QUOTA = 2;
const PERIOD = 3;
/** When the period ends, on the clock of `nowUs`. */
const PERIOD_END = 4;
/** Run in this period, and what is owed from those before. */
const USED = 5;
const NR_PERIODS = 6;
const NR_THROTTLED = 7;
const THROTTLED = 8;
/** End of the last period that is counted in NR_THROTTLED. */
const THROTTLED_END = 9;
const FIELDS = 16;

const ROW_BYTES = FIELDS * BigInt64Array.BYTES_PER_ELEMENT;
const ROWS_FIRST = 64;
/** Most control groups of a machine, the root among them. */
export const CGROUPS_MAX = 65536;
/** The parent of the root. */
const NONE = -1;

/** cpu.max: tasks of the group run for `quotaUs` in each `periodUs`, all together. */
export interface CpuMax {
  /** Infinity: "max". */
  readonly quotaUs: number;
  readonly periodUs: number;
}

/** cpu.stat, in microseconds and periods. Linux: usage_usec, nr_periods, nr_throttled, … */
export interface CpuStat {
  readonly usageUsec: number;
  /** Periods of a limited group in which its tasks ran or waited. */
  readonly nrPeriods: number;
  /** Those in which they used up the quota. */
  readonly nrThrottled: number;
  /** How long threads have waited for that, each by itself, added up. */
  readonly throttledUsec: number;
}

/**
 * From this thread's `performance.now` to the clock that all threads of a program have in common;
 * both are the same clock underneath. Found out when first asked, for a page has no `process`.
 */
let offsetUs: number | undefined;

/** The clock that all threads of a program have in common, in whole microseconds. */
export function nowUs(): number {
  offsetUs ??= Number(process.hrtime.bigint()) / 1000 - performance.now() * 1000;
  return Math.floor(offsetUs + performance.now() * 1000);
}

/** A thread may not run until `untilUs`, for these groups have used up their quota. */
export interface Throttle {
  readonly untilUs: number;
  readonly groups: readonly number[];
}

/**
 * Usage and budgets of all groups of a machine, by number; the root is 0. Any thread may have its
 * own over the same `buffer`. There is no lock, for a thread that holds one can be killed: two that
 * begin a period in the same instant may make one of them wait a period too long.
 */
export class CpuBandwidth {
  /** For other threads: `new CpuBandwidth(buffer)`. */
  readonly buffer: SharedArrayBuffer;
  readonly #words: BigInt64Array;
  /** Rows that were ever in use; kept by the kernel's thread. */
  #rows = 0;
  /** Those of groups that were removed. */
  readonly #free: number[] = [];

  /** Without a buffer: a new table, with the root. */
  constructor(buffer?: SharedArrayBuffer) {
    this.buffer = buffer ?? growable(ROWS_FIRST * ROW_BYTES, CGROUPS_MAX * ROW_BYTES);
    this.#words = new BigInt64Array(this.buffer); // grows with it
    if (buffer === undefined) this.add(NONE);
  }

  /** A new group below `parent`: its number. EAGAIN: there are CGROUPS_MAX. */
  add(parent: number): number {
    if (this.#rows === CGROUPS_MAX && this.#free.length === 0) {
      const message = `${CGROUPS_MAX} control groups are the most: remove() those not in use`;
      throw new VhostError("EAGAIN", message);
    }
    if (this.#free.length === 0 && (this.#rows + 1) * ROW_BYTES > this.buffer.byteLength) {
      this.buffer.grow(this.buffer.byteLength * 2);
    }
    const group = this.#free.pop() ?? this.#rows++;
    for (let field = 0; field < FIELDS; field++) this.#set(group, field, 0);
    this.#set(group, PARENT, parent);
    this.#set(group, QUOTA, -1);
    this.#set(group, PERIOD, 100_000);
    return group;
  }

  /**
   * A group is gone, and no task is in it. A thread that has just left it may still count a last
   * slice there.
   */
  remove(group: number): void {
    this.#set(group, QUOTA, -1);
    this.#free.push(group);
  }

  /** Sets the limit; a period begins. */
  setMax(group: number, { quotaUs, periodUs }: CpuMax, now: number): void {
    this.#set(group, QUOTA, -1);
    this.#set(group, PERIOD, periodUs);
    this.#set(group, PERIOD_END, now + periodUs);
    this.#set(group, USED, 0);
    if (Number.isFinite(quotaUs)) this.#set(group, QUOTA, quotaUs);
  }

  /** The limit. */
  max(group: number): CpuMax {
    const quotaUs = this.#get(group, QUOTA);
    return {
      quotaUs: quotaUs < 0 ? Number.POSITIVE_INFINITY : quotaUs,
      periodUs: this.#get(group, PERIOD),
    };
  }

  /** What has been counted. */
  stat(group: number): CpuStat {
    return {
      usageUsec: this.#get(group, USAGE),
      nrPeriods: this.#get(group, NR_PERIODS),
      nrThrottled: this.#get(group, NR_THROTTLED),
      throttledUsec: this.#get(group, THROTTLED),
    };
  }

  /** A task of `group` has run: counts for it and all above. Linux: account_cfs_rq_runtime(). */
  charge(group: number, us: number): void {
    for (let at = group; at !== NONE; at = this.#get(at, PARENT)) {
      this.#add(at, USAGE, us);
      if (this.#get(at, QUOTA) >= 0) this.#add(at, USED, us);
    }
  }

  /** Whether this group or one above has a quota. */
  isLimited(group: number): boolean {
    for (let at = group; at !== NONE; at = this.#get(at, PARENT)) {
      if (this.#get(at, QUOTA) >= 0) return true;
    }
    return false;
  }

  /**
   * Whether a task of `group` must wait at `now`, and how long; `undefined`: it may run. Begins the
   * periods that are due, and counts. Linux: throttle_cfs_rq().
   */
  throttle(group: number, now: number): Throttle | undefined {
    const groups: number[] = [];
    let untilUs = 0;
    for (let at = group; at !== NONE; at = this.#get(at, PARENT)) {
      const quota = this.#get(at, QUOTA);
      if (quota < 0) continue;
      this.#roll(at, quota, now);
      if (this.#get(at, USED) < quota) continue;
      const end = this.#get(at, PERIOD_END);
      groups.push(at);
      untilUs = Math.max(untilUs, end);
      if (this.#exchange(at, THROTTLED_END, end) !== end) this.#add(at, NR_THROTTLED, 1);
    }
    return groups.length === 0 ? undefined : { untilUs, groups };
  }

  /** A thread has waited for so long. */
  addThrottled({ groups }: Throttle, us: number): void {
    for (const group of groups) this.#add(group, THROTTLED, us);
  }

  /**
   * Begins the period of `now`, if another one has: each that passed pays a quota of what was
   * used. Nothing is saved up. Linux: do_sched_cfs_period_timer().
   */
  #roll(group: number, quota: number, now: number): void {
    const end = this.#get(group, PERIOD_END);
    if (now < end) return;
    const period = this.#get(group, PERIOD);
    const passed = Math.floor((now - end) / period) + 1;
    const next = BigInt(end + passed * period);
    const at = group * FIELDS + PERIOD_END;
    const seen = Atomics.compareExchange(this.#words, at, BigInt(end), next);
    if (Number(seen) !== end) return; // another thread does the rest
    const used = this.#get(group, USED);
    this.#add(group, USED, -Math.min(used, passed * quota));
    const ran = Math.max(1, Math.ceil(used / quota));
    this.#add(group, NR_PERIODS, Math.min(passed, ran));
  }

  #get(group: number, field: number): number {
    return Number(Atomics.load(this.#words, group * FIELDS + field));
  }

  #set(group: number, field: number, value: number): void {
    Atomics.store(this.#words, group * FIELDS + field, BigInt(value));
  }

  #add(group: number, field: number, value: number): void {
    Atomics.add(this.#words, group * FIELDS + field, BigInt(value));
  }

  #exchange(group: number, field: number, value: number): number {
    return Number(Atomics.exchange(this.#words, group * FIELDS + field, BigInt(value)));
  }
}

/** Grows in place, in all threads. */
function growable(bytes: number, maxByteLength: number): SharedArrayBuffer {
  return new SharedArrayBuffer(bytes, { maxByteLength });
}
