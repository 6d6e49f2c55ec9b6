import { CurrentTask } from "#dist/kernel/task-thread.js";
import { WORD_STATE, WORD_WAKE } from "#dist/kernel/wait.js";
import { TASK_RUNNING } from "#dist/spec/sched.js";
import type { RingStart } from "#dist/vhost/control.js";
import type { Notifier } from "#dist/vhost/notifier.js";
import type { Wires } from "./wires.js";
import type { World } from "./world.js";

/** As `EventfdNotifier` has them. */
const SLEEP_MS_MAX = 1000;
const SLEEP_MS_KICKLESS = 1;
const PASSES_A_LOOK = 32;

/** The worker's task, whose sleep goes on after `scheduleBy` has returned: until its next step. */
export class SimTask extends CurrentTask {
  readonly #words: Int32Array;
  #seen = 0;

  constructor(words: SharedArrayBuffer) {
    super(words);
    this.#words = new Int32Array(words);
  }

  override setState(state: Parameters<CurrentTask["setState"]>[0]): void {
    this.#seen = this.#words[WORD_WAKE] as number;
    super.setState(state);
  }

  override scheduleBy(sleep: () => void): void {
    const isRunning = this.#words[WORD_STATE] === TASK_RUNNING;
    if (!isRunning && this.#words[WORD_WAKE] === this.#seen) sleep();
  }
}

/** How a simulated worker hears, calls and sleeps: as `DoorbellNotifier` or `EventfdNotifier`. */
export class SimNotifier implements Notifier {
  readonly #world: World;
  readonly #wires: Wires;
  readonly #awaiting = new Set<number>();
  readonly #isDoorbell: boolean;
  #polled = 0;
  #kicks = 0;
  #passes = 0;
  /** When its sleep ends by itself; undefined: it does not sleep. */
  sleepsUntil: number | undefined;

  constructor(world: World, wires: Wires) {
    this.#world = world;
    this.#wires = wires;
    this.#isDoorbell = world.config.notifier === "doorbell";
  }

  setQueues(rings: readonly RingStart[]): void {
    this.#awaiting.clear();
    for (const { index, awaitsKick } of rings) if (awaitsKick) this.#awaiting.add(index);
    const hasFds = this.#world.config.notifier === "eventfd";
    this.#polled = hasFds ? rings.reduce((bits, { index }) => bits | (1 << index), 0) : 0;
    this.#kicks = 0;
    this.#passes = 0;
  }

  /** Whether the queue waits for its first kick still. */
  awaitsKick(queue: number): boolean {
    return this.#awaiting.has(queue);
  }

  isKickless(): boolean {
    return this.#world.config.notifier === "kickless";
  }

  takeKicks(all = false): number {
    if (this.#isDoorbell) return this.#wires.doorbell.takeKicks();
    const isDue = this.#awaiting.size > 0 && this.#passes++ % PASSES_A_LOOK === 0;
    if (all || isDue) this.#drain();
    const kicks = this.#kicks;
    this.#kicks = 0;
    return kicks;
  }

  hasKicks(): boolean {
    return this.#isDoorbell ? this.#wires.doorbell.hasKicks() : this.#kicks !== 0;
  }

  call(queue: number): void {
    this.#wires.call(queue);
  }

  /** Found at the end, in the counts. */
  error(): void {}

  sleep(task: CurrentTask, timeoutMs: number): void {
    task.scheduleBy(() => {
      if (this.#drain()) return;
      const { notifier } = this.#world.config;
      const limits = { doorbell: Infinity, eventfd: SLEEP_MS_MAX, kickless: SLEEP_MS_KICKLESS };
      this.sleepsUntil = this.#world.now + Math.min(timeoutMs, limits[notifier]);
    });
  }

  /** The sleep is over. */
  wake(): void {
    this.sleepsUntil = undefined;
    this.#drain();
  }

  /** Whether an eventfd that it polls would end its sleep. */
  get isFdReady(): boolean {
    return (this.#wires.kickFds & this.#polled) !== 0;
  }

  #drain(): boolean {
    const kicks = this.#wires.kickFds & this.#polled;
    this.#wires.kickFds &= ~kicks;
    this.#kicks |= kicks;
    for (const queue of this.#awaiting) if (kicks & (1 << queue)) this.#awaiting.delete(queue);
    return kicks !== 0;
  }
}
