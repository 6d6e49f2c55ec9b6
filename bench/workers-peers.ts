import { Worker } from "node:worker_threads";
import { Kernel } from "#dist/kernel/kernel.js";
import { vhostKthreadCreate } from "#dist/kernel/vhost-kthread.js";
import {
  vhostTaskCreate,
  vhostTaskStart,
  vhostTaskStop,
  vhostTaskWake,
} from "#dist/kernel/vhost-task.js";
import { WORD_ANSWER, WORD_ASKED, WORD_READY, WORD_STOP, WORDS_BYTES } from "./workers-words.js";

/** A thread that runs, as this one has it. */
export interface Peer {
  /** Its answer to question number `asked`. Those that share words block this thread. */
  ask(asked: number): number | Promise<number>;
  /** Ends it, and waits for that. */
  stop(): Promise<void>;
}

/** Makes one; back when it runs. */
export type MakePeer = () => Peer;

const MODULE = new URL("./workers-thread.js", import.meta.url);
const TIMEOUT_MS = 30_000;

/** Waits, in this thread, until a word is no longer `seen`. */
function changed(words: Int32Array, at: number, seen: number): number {
  for (;;) {
    const value = Atomics.load(words, at);
    if (value !== seen) return value;
    if (Atomics.wait(words, at, seen, TIMEOUT_MS) === "timed-out") throw new Error("no answer");
  }
}

/** Asks by the words, `wake` being what ends the other's sleep. */
function asking(words: Int32Array, wake: () => void): (asked: number) => number {
  return (asked) => {
    const before = Atomics.load(words, WORD_ANSWER);
    Atomics.store(words, WORD_ASKED, asked);
    wake();
    return changed(words, WORD_ANSWER, before);
  };
}

/** Tasks of one owner: as its user workers, or as kernel threads. */
export function taskPeers(create: typeof vhostTaskCreate | typeof vhostKthreadCreate): MakePeer {
  const kernel = new Kernel();
  const owner = kernel.spawn({ uid: 1000, cgroup: "/bench", memoryBytes: 65536 });
  return () => {
    const words = new Int32Array(new SharedArrayBuffer(WORDS_BYTES));
    const task = create(kernel, owner, {
      name: `vhost-${owner.pid}`,
      fn: { module: MODULE.href, name: "sleeper" },
      arg: { words: words.buffer },
    });
    vhostTaskStart(task);
    changed(words, WORD_READY, 0);
    const ask = asking(words, () => vhostTaskWake(task));
    return { ask, stop: () => vhostTaskStop(task) };
  };
}

/** Threads of Node's own, without a kernel: `new Worker()`, and what a program does by itself. */
export function barePeers(end: "told" | "terminated"): MakePeer {
  return () => {
    const words = new Int32Array(new SharedArrayBuffer(WORDS_BYTES));
    const worker = new Worker(MODULE, { workerData: { words: words.buffer, by: "words" } });
    const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
    changed(words, WORD_READY, 0);
    const wake = () => void Atomics.notify(words, WORD_ASKED);
    const tell = () => {
      Atomics.store(words, WORD_STOP, 1);
      Atomics.add(words, WORD_ASKED, 1);
      wake();
    };
    const stop = async () => {
      if (end === "told") tell();
      else await worker.terminate();
      await exited;
    };
    return { ask: asking(words, wake), stop };
  };
}

/** Threads of Node's own that are asked by messages. */
export function messagePeers(): Peer {
  const words = new Int32Array(new SharedArrayBuffer(WORDS_BYTES));
  const worker = new Worker(MODULE, { workerData: { words: words.buffer, by: "messages" } });
  changed(words, WORD_READY, 0);
  const ask = (asked: number) =>
    new Promise<number>((resolve) => {
      worker.once("message", resolve);
      worker.postMessage(asked);
    });
  return { ask, stop: async () => void (await worker.terminate()) };
}

/** Of either kind of task, and what they are beside. */
export const PEERS = {
  userWorker: taskPeers(vhostTaskCreate),
  kthread: taskPeers(vhostKthreadCreate),
  told: barePeers("told"),
  terminated: barePeers("terminated"),
};
