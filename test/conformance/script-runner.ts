// Runs scripts one after the other in a thread beside this one, each within a time.

import { Worker } from "node:worker_threads";

/** Which script is to run. */
export interface Asked {
  readonly dir: string;
  readonly area: string;
  readonly id: string;
}

/** A value that a script saw, or why it cannot be had; neither: the script gave `undefined`. */
export interface Told {
  readonly value?: unknown;
  readonly inexpressible?: string;
}

/** What came of a script: one of the three. */
export interface Outcome {
  readonly seen?: Record<string, Told>;
  readonly inexpressible?: string;
  /** It saw nothing that it could tell: it threw, never ended, is no script. */
  readonly failed?: string;
}

/** Seconds that a script may take. */
export const SECONDS_MAX = 30;

/** Runs scripts; dispose of it. A thread that a script has ended or held up is replaced. */
export class ScriptRunner {
  #worker: Worker | undefined;

  constructor(readonly secondsMax = SECONDS_MAX) {}

  /** Never rejects, and ends within `secondsMax`. */
  async run(asked: Asked): Promise<Outcome> {
    this.#worker ??= makeThread();
    const worker = this.#worker;
    const outcome = await answer(worker, asked, this.secondsMax);
    if (outcome.isLast) await this[Symbol.asyncDispose]();
    return outcome;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }
}

function makeThread(): Worker {
  const worker = new Worker(new URL("./script-thread.js", import.meta.url));
  return worker.on("error", () => {}); // what a script leaves behind is nobody's any more
}

function answer(
  worker: Worker,
  asked: Asked,
  seconds: number,
): Promise<Outcome & { isLast?: boolean }> {
  return new Promise((resolve) => {
    const end = (outcome: Outcome & { isLast?: boolean }) => {
      clearTimeout(timer);
      worker.off("message", end).off("exit", onExit).off("error", onError);
      resolve(outcome);
    };
    const fail = (failed: string) => end({ failed, isLast: true });
    const onExit = () => fail("it ended its thread");
    const onError = (error: Error) => fail(`it ended its thread: ${error.message}`);
    const timer = setTimeout(fail, seconds * 1000, `it did not end within ${seconds} s`);
    worker.on("message", end).on("exit", onExit).on("error", onError);
    worker.postMessage(asked);
  });
}
