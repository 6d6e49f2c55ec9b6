import { MessageChannel, type MessagePort } from "node:worker_threads";
import type { Task } from "../kernel/task.js";
import { WorkerThread } from "../kernel/thread.js";
import { Waker, WORD_FLAGS } from "../kernel/wait.js";
import { VHOST_TASK_FLAGS_STOP } from "../spec/sched.js";
import type { IoThread, JobWork } from "./io-work.js";

/** What the thread is given when it starts. */
export interface IoWorkerArg {
  readonly memory: WebAssembly.Memory;
  readonly port: MessagePort;
}

/**
 * The thread of an io worker: it sleeps, is woken, does one job at a time straight on the owner's
 * memory, and sends the result. As every thread of a task it keeps the program alive.
 */
export class IoWorkerThread extends WorkerThread implements IoThread<JobWork> {
  readonly #port: MessagePort;
  readonly #words: SharedArrayBuffer;
  readonly #waker: Waker;

  /** For `task`, whose memory is `memory`. `done` gets each result, in this thread. */
  constructor(task: Task, memory: WebAssembly.Memory, done: (res: number) => void) {
    const { port1, port2 } = new MessageChannel();
    const arg: IoWorkerArg = { memory, port: port2 };
    const fn = { module: new URL("./io-worker-thread.js", import.meta.url).href, name: "ioWorker" };
    super({
      fn,
      arg,
      transfer: [port2],
      name: task.comm,
      words: task.words,
      cgroups: task.cgroup.cpu.buffer,
    });
    this.#port = port1;
    this.#words = task.words;
    this.#waker = new Waker(task.words);
    port1.on("message", done);
    void this.exited.then(() => port1.close());
  }

  run(work: JobWork): void {
    this.#port.postMessage(work.message); // S1: the job is there before the wake-up
    this.#waker.wake();
  }

  override async stop(graceMs: number): Promise<void> {
    Atomics.or(new Int32Array(this.#words), WORD_FLAGS, 1 << VHOST_TASK_FLAGS_STOP); // S1
    this.#waker.wake();
    await super.stop(graceMs);
  }
}
