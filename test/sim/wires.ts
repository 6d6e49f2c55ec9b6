// What lies between a driver and a worker: kicks one way, calls the other.
//
// The fault model: what may go wrong with a notification, and what must heal it.
//
// Kicks, by how the worker hears of them:
// - doorbell (threads of one program): never lost and never late, for they are words of shared
//   memory. A dead worker hears none. Healed by the start: a ring that starts gets a turn at once.
// - eventfd (from another process): may be late by milliseconds. May be lost, as one is of a driver
//   that is suspended before it kicks; healed by the worker, which sleeps for a second at most. Not
//   lost: one to a ring that waits for its first kick, since nothing else may start that. What is
//   in an eventfd outlives the worker.
// - kickless: there are none; healed by the worker, which sleeps for a millisecond at most.
//
// Calls may be late. They may be lost where the driver sleeps for a second at most, which heals it;
// a driver that sleeps until it is called (as Linux's does) must be called. What a worker that is
// killed would have called for, the next one must.
//
// Both may come twice, or for nothing. Nothing else may heal anything: whenever somebody sleeps
// while there is something in a ring for him, with no fault of this list to blame, that is a lost
// wake-up, and found at once.

import { Doorbell } from "#dist/vhost/notify.js";
import type { World } from "./world.js";

/** How late, in milliseconds, at most. */
const LATE_MS = 5;

/** Who hears a kick. */
export interface Hearer {
  readonly isAlive: boolean;
  /** The queue is not touched before its first kick. */
  awaitsKick(queue: number): boolean;
  /** Something is in an eventfd. */
  fdReady(): void;
  /** Linux: wake_up_process(). */
  wake(): void;
}

/** The notifications between one driver and one worker at a time. */
export class Wires {
  readonly #world: World;
  /** The words, in all modes for calls and control, in mode "doorbell" for kicks. */
  readonly doorbell = new Doorbell();
  /** The kicks' eventfds: a bit for each queue. */
  kickFds = 0;
  /** Kicks and calls that a fault has eaten, a bit for each queue, since the hearer was awake. */
  lostKicks = 0;
  lostCalls = 0;
  /** Kicks and calls that are late: how many of each queue. */
  readonly lateKicks: number[] = [];
  lateCalls = 0;
  hearer!: Hearer;

  constructor(world: World) {
    this.#world = world;
  }

  /** The driver kicks. `amid`: called between the two halves of a kick by doorbell. */
  kick(queue: number, amid: () => void = () => {}): void {
    const world = this.#world;
    const { notifier } = world.config;
    if (notifier === "kickless") return;
    const isRemote = notifier === "eventfd";
    const mayGo = isRemote && !this.hearer.awaitsKick(queue);
    if (mayGo && world.fault("kickLost")) {
      world.say(`kick ${queue} is lost`);
      this.lostKicks |= 1 << queue;
      return;
    }
    if (isRemote && world.fault("kickLate")) {
      this.lateKicks[queue] = (this.lateKicks[queue] ?? 0) + 1;
      const ms = world.random.below(LATE_MS * 1000) / 1000;
      world.after(ms, `kick ${queue}, late`, () => {
        this.lateKicks[queue] = (this.lateKicks[queue] ?? 0) - 1;
        this.#deliverKick(queue);
      });
      return;
    }
    this.#deliverKick(queue, amid);
    if (world.fault("kickTwice")) this.#deliverKick(queue);
  }

  #deliverKick(queue: number, amid: () => void = () => {}): void {
    this.#world.say(`kick ${queue}`);
    if (this.#world.config.notifier === "doorbell") {
      if (!this.hearer.isAlive) return;
      this.doorbell.kick(queue);
      amid();
      this.hearer.wake();
    } else {
      this.kickFds |= 1 << queue;
      this.hearer.fdReady();
    }
  }

  /** The worker calls. */
  call(queue: number): void {
    const world = this.#world;
    const { driverSleepMs } = world.config;
    const mayGo = driverSleepMs < Number.POSITIVE_INFINITY;
    if (mayGo && world.fault("callLost")) {
      world.say(`call ${queue} is lost`);
      this.lostCalls |= 1 << queue;
      return;
    }
    if (world.fault("callLate")) {
      this.lateCalls++;
      const ms = world.random.below(LATE_MS * 1000) / 1000;
      world.after(ms, `call ${queue}, late`, () => {
        this.lateCalls--;
        this.#deliverCall(queue);
      });
      return;
    }
    this.#deliverCall(queue);
    if (world.fault("callTwice")) this.#deliverCall(queue);
  }

  #deliverCall(queue: number): void {
    this.#world.say(`call ${queue}`);
    this.doorbell.call(queue);
  }

  /** A notification for nothing. */
  spurious(queueCount: number): void {
    const { random, config } = this.#world;
    const queue = random.below(queueCount);
    const what = random.pick(["kick", "call", "wake"]);
    this.#world.say(`for nothing: ${what}`);
    if (what === "call") this.#deliverCall(queue);
    else if (what === "wake") this.hearer.wake();
    else if (config.notifier !== "kickless") this.#deliverKick(queue);
  }
}
