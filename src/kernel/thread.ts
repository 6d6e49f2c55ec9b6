import { type MessagePort, type ResourceLimits, Worker } from "node:worker_threads";
import { VhostError } from "../spec/errno.js";
import { UNCUT_BUSY, UNCUT_ENDING, UNCUT_LAST_TURN, UNCUT_TURN, WORD_UNCUT } from "./wait.js";

/** A function that runs in another thread, by name: functions themselves do not cross threads. */
export interface ThreadFn {
  /** URL of the module, as `import()` takes it: `file:…`. */
  readonly module: string;
  /** Exported `(arg, current: CurrentTask) => number | void`, or a promise of it: the exit code. */
  readonly name: string;
}

/** How a thread ended. */
export interface ThreadExit {
  /** What the function returned (0 for no number) or gave process.exit; 1 when `error` is set. */
  readonly code: number;
  /** What ended it before its time: what it threw, lack of memory, ETIMEDOUT or EINTR of ours. */
  readonly error?: Error;
  /** `stop` had been called when it ended; `false`: it ended by itself, or was terminated. */
  readonly stopped: boolean;
}

/** What runs a task. Threads are made asleep; each ends once. */
export interface Thread {
  /** Runs it. Never throws: a thread that cannot be made is one that ended with an error. */
  start(): void;
  /** Always resolves, never rejects. */
  readonly exited: Promise<ThreadExit>;
  /**
   * Waits for the end it was asked for by other means; after `graceMs`, enforces it (ETIMEDOUT).
   */
  stop(graceMs: number): Promise<void>;
  /** Ends it now, with `reason` as its error. Resolves when it has ended. */
  terminate(reason: Error): Promise<void>;
  /** It is none of the host's: the task's work is done by whoever calls for it. */
  readonly isInline?: boolean;
}

/** What may be moved to a thread; named by use, for its own name varies with @types/node. */
export type TransferList = NonNullable<Parameters<MessagePort["postMessage"]>[1]>;

/** What a real thread is made of. `arg` and `transfer` as in postMessage; cloned at the start. */
export interface WorkerThreadOptions {
  readonly fn: ThreadFn;
  readonly arg?: unknown;
  readonly transfer?: TransferList;
  /** Name of the thread: the task's comm. */
  readonly name: string;
  /** The task's shared words. */
  readonly words: SharedArrayBuffer;
  /** `CpuBandwidth.buffer`: where its CPU time is charged; without one, it is not. */
  readonly cgroups?: SharedArrayBuffer;
  /** Files that it opens stay open when it ends. Default: Node closes them. */
  readonly keepsFiles?: boolean;
  /**
   * Size of the thread's JavaScript heap and stack; passing them ends the thread, not the process.
   */
  readonly resourceLimits?: ResourceLimits;
}

/** What thread-entry finds in its `workerData`. */
export interface ThreadData {
  readonly fn: ThreadFn;
  readonly arg: unknown;
  readonly name: string;
  readonly words: SharedArrayBuffer;
  readonly cgroups?: SharedArrayBuffer | undefined;
  readonly keepsFiles: boolean;
}

/** So long, at most, the end of a thread waits for what must not be cut short. */
const UNCUT_MS_MAX = 5000;
/** So long it waits for the turn that the thread is in, in milliseconds. */
const TURN_MS_MAX = 500;

/** The half that both kinds share: an end that comes once. */
abstract class EndsOnce {
  readonly exited: Promise<ThreadExit>;
  protected stopped = false;
  #resolve!: (exit: ThreadExit) => void;

  constructor() {
    this.exited = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /** Resolves `exited`; only the first call counts. */
  protected end(code: number, error?: Error): void {
    const { stopped } = this;
    this.#resolve(error === undefined ? { code, stopped } : { code, error, stopped });
  }
}

/** A thread of node:worker_threads. It keeps the process alive until it ends. */
export class WorkerThread extends EndsOnce implements Thread {
  readonly #options: WorkerThreadOptions;
  #worker: Worker | null = null;
  #error: Error | undefined;

  /** Makes nothing yet: the thread comes with `start`. */
  constructor(options: WorkerThreadOptions) {
    super();
    this.#options = options;
  }

  start(): void {
    try {
      this.#worker = makeWorker(this.#options);
    } catch (error) {
      this.end(1, asError(error)); // `arg` cannot be cloned, or no thread to be had
      return;
    }
    this.#worker.on("error", (error) => {
      this.#error ??= asError(error);
    });
    // A thread ended before its first line exits with 0: an error says more than a code.
    this.#worker.on("exit", (code) => this.end(this.#error ? 1 : code, this.#error));
  }

  async stop(graceMs: number): Promise<void> {
    this.stopped = true;
    if (this.#worker === null) this.end(0);
    const ended = this.exited.then(() => true);
    if (await withinMs(ended, graceMs)) return;
    await this.terminate(
      new VhostError("ETIMEDOUT", `${this.#options.name} did not stop within ${graceMs} ms; ended`),
    );
  }

  async terminate(reason: Error): Promise<void> {
    if (this.#worker === null) {
      this.end(1, reason);
      return;
    }
    this.#error ??= reason;
    await untilUncut(new Int32Array(this.#options.words));
    await this.#worker.terminate();
    await this.exited;
  }
}

/** A task with no thread of its own: its work is done by whoever calls for it (`runPending`). */
export class InlineThread extends EndsOnce implements Thread {
  readonly isInline = true;

  start(): void {}

  async stop(): Promise<void> {
    this.stopped = true;
    this.end(0);
  }

  async terminate(reason: Error): Promise<void> {
    this.end(1, reason);
  }
}

/**
 * V8 asks a worker that is out of memory to end a little before its limit. A young generation
 * larger than that margin can overrun it in one collection, which ends the whole program (seen on
 * Node 24).
 */
const SMALL_YOUNG_GENERATION: ResourceLimits = { maxYoungGenerationSizeMb: 3 };

function makeWorker(options: WorkerThreadOptions): Worker {
  const { fn, arg, words, cgroups, name, transfer = [], resourceLimits } = options;
  const { keepsFiles = false } = options;
  return new Worker(new URL("./thread-entry.js", import.meta.url), {
    name,
    execArgv: [],
    workerData: { fn, arg, name, words, cgroups, keepsFiles } satisfies ThreadData,
    trackUnmanagedFds: !keepsFiles,
    transferList: [...transfer],
    resourceLimits: { ...SMALL_YOUNG_GENERATION, ...resourceLimits },
  });
}

/** Resolves when the thread is in nothing that must not be cut short, and begins nothing more. */
async function untilUncut(words: Int32Array<SharedArrayBuffer>): Promise<void> {
  Atomics.or(words, WORD_UNCUT, UNCUT_LAST_TURN);
  await untilWithout(words, UNCUT_TURN, TURN_MS_MAX);
  Atomics.or(words, WORD_UNCUT, UNCUT_ENDING);
  await untilWithout(words, UNCUT_BUSY, UNCUT_MS_MAX);
}

/** Resolves when `bit` is not in WORD_UNCUT, or after `ms`. */
async function untilWithout(
  words: Int32Array<SharedArrayBuffer>,
  bit: number,
  ms: number,
): Promise<void> {
  const end = performance.now() + ms;
  for (;;) {
    const seen = Atomics.load(words, WORD_UNCUT);
    const left = end - performance.now();
    if ((seen & bit) === 0 || left <= 0) return;
    const wait = Atomics.waitAsync(words, WORD_UNCUT, seen, left);
    if (wait.async) await wait.value;
  }
}

/** Longest time of a Node timer, 24 days; a longer one would fire at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** `false` when `promise` takes longer; leaves no timer behind. */
async function withinMs(promise: Promise<boolean>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, Math.min(ms, TIMER_MS_MAX), false);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const asError = (thrown: unknown): Error =>
  thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown });
