// Threads of this program, as Linux has them: all of them, not Node's alone.

import { readdirSync, readFileSync } from "node:fs";

/** In the flags of a thread that is ending. Linux: include/linux/sched.h. */
const PF_EXITING = 0x4;

/**
 * A worker that sleeps for so long, in milliseconds, while there is work, was not woken: its sleep
 * ends by itself, but after a second.
 */
const ASLEEP_MS_MAX = 500;
/** So many looks have seen it: who looks has had turns itself, to do what they may wait for. */
const LOOKS_MIN = 10;
/** How often that is looked at, in milliseconds. */
const LOOK_MS = 20;
/** In the place of how long threads have run: not all of them sleep. */
const AWAKE = -1n;

/** A thread. */
export interface Thread {
  tid: number;
  /** Its name. */
  comm: string;
  /** "R": it runs, or would; "S": it sleeps. */
  state: string;
}

const taskFile = (tid: number, name: string) =>
  readFileSync(`/proc/self/task/${tid}/${name}`, "utf8");

/** Of one that lives. Linux: proc(5), /proc/pid/stat. */
function threadOf(tid: number): Thread[] {
  try {
    const [, comm = "", rest = ""] = /\((.*)\) (.*)/s.exec(taskFile(tid, "stat")) ?? [];
    const [state = "", , , , , , flags] = rest.split(" ");
    return (Number(flags) & PF_EXITING) === 0 ? [{ tid, comm, state }] : [];
  } catch {
    return []; // it has ended
  }
}

/** All that live. One that was joined is listed for a moment still, and is not among them. */
export function liveThreads(): Thread[] {
  return readdirSync("/proc/self/task").flatMap((tid) => threadOf(Number(tid)));
}

/** How long they have run so far, in nanoseconds. Linux: /proc/pid/schedstat. */
function ranNs(threads: readonly Thread[]): bigint {
  return threads.reduce(
    (sum, { tid }) => sum + BigInt(/^\d+/.exec(taskFile(tid, "schedstat"))?.[0] ?? 0),
    0n,
  );
}

/**
 * Whether all threads of a name sleep, and for how long: they slept at each look, and did not run
 * in between. That one which is awake does not get a core is no sleep.
 */
export class SleepWatch {
  readonly #comm: string;
  #ranNs = AWAKE;
  #since = 0;
  #looks = 0;

  /** `comm`: of threads that live as long as this is used. */
  constructor(comm: string) {
    this.#comm = comm;
  }

  #threads(): Thread[] {
    const found = liveThreads().filter(({ comm }) => comm === this.#comm);
    if (found.length === 0) throw new Error(`no thread is named ${this.#comm}`);
    return found;
  }

  /** How long they have run so far, in milliseconds. */
  get ranMs(): number {
    return Number(ranNs(this.#threads())) / 1e6;
  }

  /** There is work for them from now on. */
  begin(): void {
    this.#ranNs = AWAKE;
  }

  /** A look, as there is work still: throws when they have slept for longer than is well. */
  mustBeAwake(): void {
    const threads = this.#threads();
    const now = performance.now();
    const ran = threads.every(({ state }) => state === "S") ? ranNs(threads) : AWAKE;
    const isAsleep = ran !== AWAKE && ran === this.#ranNs;
    this.#ranNs = ran;
    if (!isAsleep) [this.#since, this.#looks] = [now, 0];
    const asleepMs = now - this.#since;
    if (++this.#looks < LOOKS_MIN || asleepMs <= ASLEEP_MS_MAX) return;
    throw new Error(`${this.#comm} slept for ${asleepMs} ms`);
  }

  /** Looks at times, until `work` has ended. Rejects as soon as they have slept for too long. */
  async during<T>(work: Promise<T>): Promise<T> {
    this.begin();
    let timer: NodeJS.Timeout | undefined;
    const asleep = new Promise<never>((_, reject) => {
      const look = () => {
        try {
          this.mustBeAwake();
        } catch (error) {
          reject(error);
        }
      };
      timer = setInterval(look, LOOK_MS);
    });
    return Promise.race([work, asleep]).finally(() => clearInterval(timer));
  }
}
