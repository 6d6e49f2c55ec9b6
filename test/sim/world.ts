// Time, chance, and who goes on when. Everything happens on one thread. An actor does one step at a
// time; within a step, before and after each call into a ring and each I/O, another actor may do
// steps of its own ("nested"), or the actor dies there.

import type { Random } from "#dist/fuzz/random.js";
import type { Faults, SimConfig } from "./config.js";
import type { Trace } from "./trace.js";

/** Something that must hold does not. */
export class Violation extends Error {}

/** Thrown through the code of an actor that is killed in the middle of a step. */
export class Killed extends Error {}

/** Throws a `Violation` unless `holds`. */
export function must(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Violation(what);
}

/** Somebody who does steps: the driver, the worker. */
export interface Actor {
  readonly name: string;
  /** Whether it could do a step now; nested: amid a step of another. */
  isReady(isNested: boolean): boolean;
  /** Does one. A promise only when it is not nested. */
  step(isNested: boolean): void | Promise<void>;
  /** When it would be ready by itself, in simulated milliseconds; Infinity: never. */
  readonly wakesAt: number;
  /** The fault that is its death; undefined: it can't die now. */
  readonly death: keyof Faults | undefined;
  /** It is killed here and now: what is left of its step only unwinds. */
  died(): void;
}

interface Event {
  at: number;
  name: string;
  run: () => void | Promise<void>;
  /** Not amid an actor's step. */
  isTop: boolean;
}

/** So deep may steps be nested. */
const DEPTH_MAX = 2;
/** Steps in a row at most that others do amid one step. */
const NESTED_STEPS_MAX = 4;

/** The simulated world. */
export class World {
  readonly random: Random;
  readonly trace: Trace;
  readonly config: SimConfig;
  /** Simulated milliseconds since the beginning. */
  now = 0;
  /** Whether faults happen still. */
  isFaulty = true;
  /** How often each fault has happened. */
  readonly faults: Faults;
  /** What went wrong where nobody catches it. */
  failure: unknown;
  readonly actors: Actor[] = [];
  readonly #stack: Actor[] = [];
  readonly #events: Event[] = [];

  constructor(random: Random, trace: Trace, config: SimConfig) {
    this.random = random;
    this.trace = trace;
    this.config = config;
    const names = Object.keys(config.faults).map((name) => [name, 0]);
    this.faults = Object.fromEntries(names);
  }

  /** A line for the trace. */
  say(text: string): void {
    this.trace.add(`${this.now.toFixed(4)} ${"  ".repeat(this.#stack.length)}${text}`);
  }

  /** An occasion for a fault: whether it happens. */
  fault(name: keyof Faults): boolean {
    const times = this.config.faults[name];
    if (!this.isFaulty || times === 0 || !this.random.once(times)) return false;
    this.faults[name]++;
    return true;
  }

  /** So much time passes at most, in microseconds. */
  pass(microseconds: number): void {
    this.now += this.random.below(microseconds * 10 + 1) / 10_000;
  }

  /** Does `run` in `ms`, amid a step if need be; with `isTop` only between two. */
  after(ms: number, name: string, run: Event["run"], isTop = false): void {
    this.#events.push({ at: this.now + ms, name, run, isTop });
  }

  /** The next thing that is due, the earliest first; what was asked for first goes first. */
  #takeDue(isTop: boolean): Event | undefined {
    let due: Event | undefined;
    for (const event of this.#events) {
      if (event.at > this.now || (event.isTop && !isTop)) continue;
      if (!due || event.at < due.at) due = event;
    }
    if (due) this.#events.splice(this.#events.indexOf(due), 1);
    return due;
  }

  /** Lets happen what is due, between two steps. */
  async runDue(): Promise<boolean> {
    const due = this.#takeDue(true);
    if (!due) return false;
    this.say(due.name);
    await due.run();
    return true;
  }

  /** Events to come. */
  get eventCount(): number {
    return this.#events.length;
  }

  /** When something next happens by itself. */
  get nextAt(): number {
    const times = [...this.#events.map(({ at }) => at), ...this.actors.map((a) => a.wakesAt)];
    return Math.min(...times);
  }

  /**
   * Between two calls of an actor: time goes by, what is due happens, others may do steps, and the
   * actor may die: then this throws `Killed`.
   */
  between(actor: Actor): void {
    const isGuest = !this.#stack.includes(actor); // in a microtask of its own: nobody catches
    if (isGuest) this.#stack.push(actor);
    try {
      this.#between();
    } catch (error) {
      if (!isGuest) throw error;
      this.failure ??= error;
    } finally {
      if (isGuest) this.#stack.pop();
    }
    if (isGuest || !actor.death || !this.fault(actor.death)) return;
    this.say(`${actor.name} is killed`);
    actor.died();
    throw new Killed();
  }

  #between(): void {
    this.pass(this.config.callMicroseconds);
    for (let due = this.#takeDue(false); due; due = this.#takeDue(false)) {
      this.say(due.name);
      void due.run();
    }
    if (this.#stack.length > DEPTH_MAX || !this.random.once(this.config.nestedOnceIn)) return;
    for (let left = this.random.between(1, NESTED_STEPS_MAX); left > 0; left--) {
      const ready = this.actors.filter((a) => !this.#stack.includes(a) && a.isReady(true));
      if (ready.length === 0) return;
      void this.step(this.random.pick(ready));
    }
  }

  /** One step of an actor, which may die of it. */
  step(actor: Actor): void | Promise<void> {
    const isNested = this.#stack.length > 0;
    this.#stack.push(actor);
    try {
      const more = actor.step(isNested);
      if (more) return this.#finish(actor, more);
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
    } finally {
      this.#stack.pop();
    }
  }

  async #finish(actor: Actor, more: Promise<void>): Promise<void> {
    this.#stack.push(actor);
    try {
      await more;
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
    } finally {
      this.#stack.pop();
    }
  }
}
