// An io-wq whose time and threads are the test's.

import type { IoThread, IoWork } from "#dist/io-uring/io-work.js";
import { IoWq } from "#dist/io-uring/io-wq.js";
import { Kernel } from "#dist/kernel/kernel.js";
import type { SpawnOptions } from "#dist/kernel/spawn.js";
import type { Task } from "#dist/kernel/task.js";
import { InlineThread } from "#dist/kernel/thread.js";

/** Time that goes on when it is told to. */
export class FakeClock {
  now = 0;
  #timers: { at: number; fn: () => void }[] = [];

  after(ms: number, fn: () => void): () => void {
    const timer = { at: this.now + ms, fn };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((one) => one !== timer);
    };
  }

  /** Lets `ms` go by; what is due happens in its order. */
  pass(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((one) => one !== due);
      this.now = due.at;
      due.fn();
    }
    this.now = end;
  }
}

/** Work that says what became of it. */
export interface TestWork extends IoWork {
  readonly name: string;
}

/** A worker's thread: what it does is ended by the test. */
class FakeThread extends InlineThread implements IoThread<TestWork> {
  readonly #fixture: IoWqFixture;
  readonly #done: (res: number) => void;

  constructor(fixture: IoWqFixture, done: (res: number) => void) {
    super();
    this.#fixture = fixture;
    this.#done = done;
  }

  run(work: TestWork): void {
    this.#fixture.doing.set(work.name, this.#done);
    this.#fixture.began.push(work.name);
  }
}

/** A process of user 1000 with an io-wq. */
export class IoWqFixture {
  readonly kernel = new Kernel();
  readonly clock = new FakeClock();
  readonly owner: Task;
  readonly wq: IoWq<TestWork>;
  /** Work that is being done, by name. */
  readonly doing = new Map<string, (res: number) => void>();
  /** All that began, in order. */
  readonly began: string[] = [];
  /** Results, in order. */
  readonly results: [name: string, res: number][] = [];

  constructor(bounded = 4, options: SpawnOptions = {}) {
    const rlimits = { NPROC: 100 };
    this.owner = this.kernel.spawn({ uid: 1000, memoryBytes: 65536, rlimits, ...options });
    this.wq = new IoWq<TestWork>({
      kernel: this.kernel,
      task: this.owner,
      clock: this.clock,
      bounded,
      makeThread: (_, done) => new FakeThread(this, done),
    });
  }

  enqueue(name: string, more: Partial<TestWork> = {}): void {
    const complete = (res: number) => {
      this.doing.delete(name);
      this.results.push([name, res]);
    };
    this.wq.enqueue({ name, unbound: false, concurrent: false, complete, ...more });
  }

  /** Ends work that is being done. */
  finish(name: string, res = 0): void {
    const done = this.doing.get(name);
    if (done === undefined) throw new Error(`${name} is not being done`);
    this.doing.delete(name);
    done(res);
  }

  /** Tasks of user 1000: the process and its workers. */
  get nproc(): number {
    return this.kernel.ucounts.nproc(1000);
  }
}

/** Lets promises that are settled be heard. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));
