import { isHalted } from "../../kernel/halt.js";
import type { Kernel } from "../../kernel/kernel.js";
import type { Task } from "../../kernel/task.js";
import { VhostError } from "../../spec/errno.js";
import { WorkerHandle, type WorkerOptions } from "../worker-handle.js";
import { WorkerTable } from "../worker-table.js";
import type { BackingEnd, VhostBacking } from "./backing.js";
import { type IotlbQuestion, IotlbQuestions, QUESTIONS_MAX } from "./iotlb-questions.js";

/** How the workers of a device are run. */
export type VhostRun = Pick<WorkerOptions, "run" | "ring">;

/** Linux: vhost_worker. */
export interface VhostWorkerState {
  readonly handle: WorkerHandle;
  /** The kernel's end of the device that it has; scsi's have none. */
  readonly end: BackingEnd | undefined;
  /** What its rings ask: where addresses of the device's are. */
  readonly questions: IotlbQuestions;
  /** Its task has ended before the device's end. */
  isKilled: boolean;
}

/** A ring, as far as workers need it. */
export interface Attachable {
  readonly index: number;
  /** Set with each kick. */
  isKicked: boolean;
  /** Tells its owner of errors, and calls the driver if the ring was used. */
  notify(isCalled: boolean): void;
  /** Asks its owner where an address is. */
  missed(question: IotlbQuestion): void;
}

/** Ends of workers that are under way, by machine. */
const ends = new WeakMap<Kernel, Set<Promise<void>>>();

function endsOf(kernel: Kernel): Set<Promise<void>> {
  const all = ends.get(kernel) ?? new Set();
  ends.set(kernel, all);
  return all;
}

/** Resolves when no worker of a device by ioctl is ending: none counts any more that is over. */
export async function workersEnded(kernel: Kernel): Promise<void> {
  await Promise.allSettled([...endsOf(kernel)]);
}

/** A thread is at its rings until it has ended, whatever has become of its task. */
const isGone = ({ handle }: VhostWorkerState): boolean =>
  handle.inline ? handle.isDead : handle.death !== undefined;

/**
 * The workers of one device by ioctl, by number, and which ring is whose. Each is a thread; or has
 * none, and `run` does what it may do. Kernel's thread. Linux: worker_xa, vhost_worker.
 */
export class VhostWorkers {
  readonly #kernel: Kernel;
  readonly #vqs: readonly Attachable[];
  readonly #backing: VhostBacking | undefined;
  readonly #run: VhostRun;
  readonly #table = new WorkerTable<VhostWorkerState>(({ isKilled }) => isKilled);
  /** What was asked of workers and is not done. */
  readonly #asked = new Set<Promise<void>>();
  /** How often all of them were ended. */
  #stops = 0;
  /** Chains that those have popped which are gone. */
  #pastChains = 0;

  /** None yet. `backing`: what works on the rings. */
  constructor(
    kernel: Kernel,
    vqs: readonly Attachable[],
    backing: VhostBacking | undefined,
    run: VhostRun,
  ) {
    this.#kernel = kernel;
    this.#vqs = vqs;
    this.#backing = backing;
    this.#run = run;
  }

  /** Their numbers. */
  get ids(): number[] {
    return [...this.#table.all.keys()];
  }

  /** Their tasks, those that have ended among them. */
  get tasks(): Task[] {
    return this.#table.list.map(({ handle }) => handle.task.task);
  }

  /** Chains that were popped. */
  get chainCount(): number {
    const counts = this.#table.list.map(({ handle }) => handle.counters.total().requests);
    return counts.reduce((sum, count) => sum + count, this.#pastChains);
  }

  /**
   * A worker that has no ring yet; its number, the lowest that is free. ENOMEM: whatever the reason
   * that none can be made. Linux: vhost_worker_create().
   */
  create(owner: Task, forkFromOwner: boolean): number {
    const { mm } = owner;
    if (mm === null) throw new VhostError("EINVAL", "the caller has no memory", { pid: owner.pid });
    const options = { ...this.#run, forkFromOwner, pollMicroseconds: 0, tellsErrors: true };
    let handle: WorkerHandle;
    try {
      handle = new WorkerHandle(this.#kernel, owner, mm.memory, options);
    } catch (error) {
      const facts = { pid: owner.pid };
      throw new VhostError("ENOMEM", "no worker can be made from the caller", facts, error);
    }
    const end = this.#equip(handle);
    const worker = { handle, end, questions: new IotlbQuestions(), isKilled: false };
    const id = this.#table.add(worker);
    handle.onDeath(() => handle.doorbell.ringDriver()); // ends the listening
    if (!handle.inline) void this.#listen(worker);
    return id;
  }

  /** Gives it the device. */
  #equip(handle: WorkerHandle): BackingEnd | undefined {
    const backing = this.#backing;
    const { inline } = handle;
    const end = backing?.open(handle.task.task, inline !== undefined);
    if (!backing || !end) return undefined;
    if (inline) inline.take(backing.createDevice(end.options));
    else this.ask(handle.control.attach(backing.module, end.options, []));
    return end;
  }

  /** Hears a thread's calls, and errors and questions of its rings, until it is gone. */
  async #listen(worker: VhostWorkerState): Promise<void> {
    const { doorbell } = worker.handle;
    while (!worker.handle.death) {
      const seen = doorbell.callSequence();
      this.#hear(worker);
      await doorbell.waitCall(seen, Number.POSITIVE_INFINITY);
    }
  }

  /** Passes on what a worker tells. Whether its rings have asked something. */
  #hear(worker: VhostWorkerState): boolean {
    const calls = worker.handle.doorbell.takeCalls();
    for (const vq of this.#ringsOf(worker)) vq.notify((calls & (1 << vq.index)) !== 0);
    return this.#passOn(worker);
  }

  /** A ring that has found no room for its question is looked at again, and asks again. */
  #passOn(worker: VhostWorkerState): boolean {
    const { questions } = worker;
    let hasAsked = false;
    for (let left = QUESTIONS_MAX; left > 0; left--) {
      const question = questions.take();
      if (!question) break;
      hasAsked = true;
      const vq = this.#vqs[question.index];
      if (vq && this.of(vq) === worker) vq.missed(question);
    }
    if (!questions.takeFull()) return hasAsked;
    for (const vq of this.#ringsOf(worker)) this.queue(vq);
    return true;
  }

  /** What is asked of a worker, which may die meanwhile; see `isSettled`. */
  ask(asked: Promise<unknown>): void {
    const done = asked.then(
      () => {},
      () => {}, // it is dead
    );
    this.#asked.add(done);
    void done.then(() => this.#asked.delete(done));
  }

  /** Whether all that was asked of workers is done. */
  get isSettled(): boolean {
    return this.#asked.size === 0;
  }

  /** A ring's worker; `undefined`: it has none. */
  of({ index }: Attachable): VhostWorkerState | undefined {
    return this.#table.of(index);
  }

  #ringsOf(worker: VhostWorkerState): Attachable[] {
    return this.#vqs.filter((vq) => this.of(vq) === worker);
  }

  /** ENODEV: none such. EBUSY: it has rings, or was killed. Linux: vhost_free_worker(). */
  free(id: number): void {
    this.#bury();
    const worker = this.#table.idle(id);
    this.#table.delete(id);
    this.#end(worker);
  }

  #end({ handle, end }: VhostWorkerState): void {
    this.#pastChains += handle.counters.total().requests;
    end?.close();
    const ended = handle.stop();
    if (handle.inline) return; // it has ended
    this.ask(ended);
    endsOf(this.#kernel).add(ended);
    void ended.finally(() => endsOf(this.#kernel).delete(ended));
  }

  /** ENODEV: none such. One that was killed gets no ring. Linux: vhost_vq_attach_worker(). */
  attach(vq: Attachable, id: number): void {
    this.#bury();
    const worker = this.#table.at(id);
    if (!worker.isKilled) this.#table.give(vq.index, worker);
  }

  /** Number of the worker that a ring has. EINVAL: none, it was killed. */
  idOf(vq: Attachable): number {
    this.#bury();
    return this.#table.idOf(vq.index);
  }

  /** Has the ring's worker look at it, if it has one. Linux: vhost_vq_work_queue(). */
  queue(vq: Attachable): void {
    this.#bury();
    const worker = this.of(vq);
    if (!worker) return;
    vq.isKicked = true;
    if (worker.end) worker.handle.kick(vq.index);
  }

  /**
   * Asks every worker that has rings to say when it has come so far. Returns whether all have; a
   * dead one has. Linux: vhost_dev_flush().
   */
  flush(): () => boolean {
    this.#bury();
    const stops = this.#stops;
    const working = new Set(this.#vqs.flatMap((vq) => this.of(vq) ?? []));
    const flushes = [...working].map(({ handle }) => handle.flush());
    return () => stops !== this.#stops || flushes.every((isDone) => isDone());
  }

  /** Resolves when every turn that a thread has begun is over; a dead one's is. */
  async turnsOver(): Promise<void> {
    this.#bury();
    const threads = this.#table.list.filter(({ handle, isKilled }) => {
      return !handle.inline && !isKilled;
    });
    await Promise.all(threads.map(({ handle }) => handle.flushed()));
  }

  /** Without threads: a batch of each that may run; calls `ran` after each. Whether any worked. */
  run(ran: (task: Task) => void = () => {}): boolean {
    this.#bury();
    let hasWorked = false;
    for (const worker of this.#table.list) {
      const { handle, end, isKilled } = worker;
      if (!handle.inline || isKilled) continue;
      if (end?.work()) hasWorked = true;
      if (isHalted(handle.task.task)) continue;
      const hasRun = handle.runPending();
      if (hasRun) ran(handle.task.task);
      if (this.#hear(worker) || hasRun) hasWorked = true;
    }
    return hasWorked;
  }

  /** Ends them all; who waits for them waits no more. Linux: vhost_workers_free(). */
  stop(): void {
    this.#stops++;
    for (const worker of this.#table.clear()) this.#end(worker);
  }

  /** Rings of those whose task has ended have no worker any more. Linux: vhost_worker_killed(). */
  #bury(): void {
    for (const worker of this.#table.all.values()) {
      if (worker.isKilled || !isGone(worker)) continue;
      worker.isKilled = true;
      for (const vq of this.#ringsOf(worker)) vq.notify(false); // what it has met until then
      this.#table.orphan(worker);
    }
  }
}
