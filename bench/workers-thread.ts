// The threads of bench/workers.ts: each says that it runs, answers what it is asked, and sleeps in
// between, until it is to stop. As the function of a task, and as a worker of Node's own.

import { isMainThread, parentPort, workerData } from "node:worker_threads";
import type { CurrentTask } from "#dist/kernel/task-thread.js";
import { TASK_INTERRUPTIBLE, TASK_RUNNING } from "#dist/spec/sched.js";
import { answerTo, WORD_ANSWER, WORD_ASKED, WORD_READY, WORD_STOP } from "./workers-words.js";

/** What either gets. */
export interface SleeperArg {
  words: SharedArrayBuffer;
}

function say(words: Int32Array, at: number, value: number): void {
  Atomics.store(words, at, value);
  Atomics.notify(words, at);
}

/** Function of a task. */
export function sleeper({ words: shared }: SleeperArg, task: CurrentTask): void {
  const words = new Int32Array(shared);
  let answered = 0;
  say(words, WORD_READY, 1);
  for (;;) {
    task.setState(TASK_INTERRUPTIBLE);
    if (task.shouldStop()) return;
    const asked = Atomics.load(words, WORD_ASKED);
    if (asked === answered) {
      task.schedule();
      continue;
    }
    task.setState(TASK_RUNNING);
    answered = asked;
    say(words, WORD_ANSWER, answerTo(asked));
  }
}

function bare(words: Int32Array): void {
  let answered = 0;
  say(words, WORD_READY, 1);
  while (Atomics.load(words, WORD_STOP) === 0) {
    const asked = Atomics.load(words, WORD_ASKED);
    if (asked === answered) {
      Atomics.wait(words, WORD_ASKED, asked);
      continue;
    }
    answered = asked;
    say(words, WORD_ANSWER, answerTo(asked));
  }
}

const setup = isMainThread ? undefined : (workerData as SleeperArg & { by?: "words" | "messages" });
if (setup?.by === "words") bare(new Int32Array(setup.words));
if (setup?.by === "messages") {
  const port = parentPort ?? undefined;
  port?.on("message", (asked: number) => port.postMessage(answerTo(asked)));
  say(new Int32Array(setup.words), WORD_READY, 1);
}
