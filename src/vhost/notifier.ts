import type { CurrentTask } from "../kernel/task-thread.js";
import type { RingStart } from "./control.js";
import type { Doorbell } from "./notify.js";

/** How a worker hears of work, tells of it, and sleeps. Lives in the worker's thread. */
export interface Notifier {
  /** These queues run from now on, no others. */
  setQueues(rings: readonly RingStart[]): void;
  /**
   * Takes the kicks that came, a bit for each queue: all of them if `all`, else perhaps those of a
   * moment ago. Never blocks.
   */
  takeKicks(all?: boolean): number;
  /** Whether nobody kicks `queue`: its driver wants it polled. */
  isKickless?(queue: number): boolean;
  /** Whether a kick came that would not end a sleep. Nothing is taken. */
  hasKicks(): boolean;
  /**
   * What the last kick of `queue` said with VIRTIO_F_NOTIFICATION_DATA: up to where the driver has
   * published, a u16. virtio 1.3, 2.9 Driver Notifications.
   */
  kickData?(queue: number): number;
  /** Entries of `queue` were used. */
  call(queue: number): void;
  /** `queue` met so many errors. */
  error(queue: number, count: number): void;
  /**
   * Sleeps until a kick, until the task is woken (see `CurrentTask.schedule`), or for `timeoutMs`.
   */
  sleep(task: CurrentTask, timeoutMs?: number): void;
  /**
   * The device's module is loaded, the device is made next: from here on the thread acts for its
   * owner. May throw: then there is no device.
   */
  actForOwner?(): void;
  /** Gives back what it holds. */
  close?(): void;
}

/** What a notifier's module exports; it is named by URL, for it is made in the worker's thread. */
export interface NotifierModule {
  /** May throw: that ends the worker. */
  createNotifier(options: unknown): Notifier;
}

/** A notifier to be. One that has a module of its own carries no data with a kick. */
export interface NotifierSpec {
  /** File URL of a `NotifierModule`. */
  module: string;
  /** For `createNotifier`; structured-cloneable. */
  options: unknown;
  /** Ends the notifier's sleep, from the owner's thread. */
  wake(): void;
  /** The eventfd by which other threads end it, if there is one. */
  wakeFd?: number;
  /** One like it, for a further worker of the device; without this, it can have none. */
  another?(): NotifierSpec;
}

/** Bits in shared memory, and `Atomics.wait`: between threads of one program. */
export class DoorbellNotifier implements Notifier {
  readonly #doorbell: Doorbell;
  readonly #calls: Doorbell;
  readonly #tellsErrors: boolean;

  /**
   * `calls`: by which drivers are called; a further worker has the first one's. `tellsErrors`: who
   * waits for calls is woken by errors, too.
   */
  constructor(
    doorbell: Doorbell,
    how: { calls?: Doorbell | undefined; tellsErrors?: boolean } = {},
  ) {
    this.#doorbell = doorbell;
    this.#calls = how.calls ?? doorbell;
    this.#tellsErrors = how.tellsErrors ?? false;
  }

  setQueues(): void {}

  takeKicks(): number {
    return this.#doorbell.takeKicks();
  }

  hasKicks(): boolean {
    return this.#doorbell.hasKicks();
  }

  kickData(queue: number): number {
    return this.#doorbell.kickData(queue);
  }

  call(queue: number): void {
    this.#calls.call(queue);
  }

  /** How many stands in the ring's state block; that there are some is told. */
  error(): void {
    if (this.#tellsErrors) this.#calls.ringDriver();
  }

  sleep(task: CurrentTask, timeoutMs?: number): void {
    task.schedule(timeoutMs);
  }
}
