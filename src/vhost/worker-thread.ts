import type { CurrentTask } from "../kernel/task-thread.js";
import { TASK_INTERRUPTIBLE, TASK_RUNNING } from "../spec/sched.js";
import { ControlServer, type ThreadSetup } from "./control.js";
import { DoorbellNotifier, type Notifier, type NotifierModule } from "./notifier.js";
import { Doorbell } from "./notify.js";
import { VhostWorker } from "./worker.js";
import { WorkerLoop } from "./worker-loop.js";

async function makeNotifier(
  { notifier, calls, tellsErrors = false }: ThreadSetup,
  doorbell: Doorbell,
  task: CurrentTask,
): Promise<Notifier> {
  if (!notifier) {
    return new DoorbellNotifier(doorbell, { calls: calls && new Doorbell(calls), tellsErrors });
  }
  const { createNotifier } = (await import(notifier.module)) as NotifierModule;
  return task.uncut(() => createNotifier(notifier.options)); // it may load native code
}

/** One device in the thread: its worker, and its owner's messages. */
interface Seat {
  doorbell: Doorbell;
  notifier: Notifier;
  worker: VhostWorker;
  loop: WorkerLoop;
  control: ControlServer;
  setup: ThreadSetup;
}

/** The devices that one thread serves: most often one. */
class Seats {
  readonly #task: CurrentTask;
  #seats: Seat[] = [];

  constructor(task: CurrentTask) {
    this.#task = task;
  }

  /** Takes one in. */
  async add(setup: ThreadSetup): Promise<void> {
    const doorbell = new Doorbell(setup.doorbell);
    const notifier = await makeNotifier(setup, doorbell, this.#task);
    const now = () => performance.now();
    const worker = new VhostWorker(setup, notifier, { now, adopt: (its) => this.add(its) });
    const loop = new WorkerLoop(worker, setup.pollMicroseconds / 1000, now);
    const control = new ControlServer(setup.control, worker);
    this.#seats.push({ doorbell, notifier, worker, loop, control, setup });
  }

  /** Whether an owner's message waits. */
  isAsked(): boolean {
    for (const { doorbell } of this.#seats) if (doorbell.isControlPending()) return true;
    return false;
  }

  /** Answers messages; devices that were closed are gone after it. */
  async serve(): Promise<void> {
    for (const { doorbell, control } of [...this.#seats]) {
      if (doorbell.takeControl()) await control.serve();
    }
    this.#seats = this.#seats.filter(({ worker }) => !worker.isDetached);
  }

  begin(): void {
    for (const { loop } of this.#seats) loop.begin();
  }

  /** A pass over the rings of all. False: there was no work for a while, for any. */
  poll(): boolean {
    let goesOn = false;
    for (const { loop } of this.#seats) if (loop.poll()) goesOn = true;
    return goesOn;
  }

  /** As `WorkerLoop.prepareToSleep`: the state is set once, before the looks at all of them. */
  prepareToSleep(): number {
    this.#task.setState(TASK_INTERRUPTIBLE);
    let sleepMs = Number.POSITIVE_INFINITY;
    for (const { loop, doorbell } of this.#seats) {
      sleepMs = Math.min(sleepMs, loop.lastLook(this.#task, doorbell));
    }
    return sleepMs;
  }

  /** Where there are several, all sleep by the same words. */
  sleep(sleepMs: number): void {
    const [first] = this.#seats;
    if (first) first.notifier.sleep(this.#task, sleepMs);
    else if (!this.#task.shouldStop()) this.#task.schedule();
  }

  async close(): Promise<void> {
    for (const { worker, setup } of this.#seats) {
      await worker.detach();
      setup.control.close();
    }
  }
}

/**
 * The function of a vhost worker's thread: serves its owner's messages and the rings until it is
 * told to stop. Linux: vhost_worker().
 */
export async function vhostWorker(setup: ThreadSetup, task: CurrentTask): Promise<void> {
  const seats = new Seats(task);
  await seats.add(setup);
  const isAsked = () => seats.isAsked();
  while (!task.shouldStop()) {
    if (!task.mayRun()) task.hold(isAsked);
    await seats.serve();
    seats.begin();
    task.takeTurns(() => !seats.isAsked() && seats.poll());
    // Also before it is held or stops a ring: a driver that is not asked for kicks gives none.
    const sleepMs = seats.prepareToSleep();
    if (sleepMs > 0 && !task.signalPending()) seats.sleep(sleepMs);
    task.setState(TASK_RUNNING);
  }
  await seats.close();
}
