// How the threads of a model are written: as lists of steps, each with one access to shared memory
// at most. What is between two accesses is a thread's own affair and takes no time.

/** Registers of a thread, by name: small whole numbers. */
export type Registers = Record<string, number>;

/**
 * What an access orders. `acqRel`: a store releases, a load acquires. `sc`: it has its place in the
 * one order of all sequentially consistent accesses. Atomics of JavaScript and of WebAssembly do
 * both, plain accesses neither; one without the other is there to take a barrier out.
 */
export interface Order {
  readonly acqRel: boolean;
  readonly sc: boolean;
}

/** A plain access, of a ring's elements say. */
export const PLAIN: Order = { acqRel: false, sc: false };
/** `Atomics.…`, `atomic.…`, and what the kernel does to an eventfd. */
export const SC: Order = { acqRel: true, sc: true };

/** One step; `say` names the product's function and what it does there. */
export type Step<R> =
  | { kind: "load"; say: string; at: At<R>; order: Order; then: (r: R, value: number) => void }
  | { kind: "store"; say: string; at: At<R>; order: Order; value: (r: R) => number }
  | {
      kind: "rmw";
      say: string;
      at: At<R>;
      order: Order;
      update: (old: number) => number;
      then: (r: R, old: number) => void;
    }
  | { kind: "wait"; say: string; at: At<R>; expected: (r: R) => number }
  | { kind: "notify"; say: string; at: At<R> }
  | { kind: "block"; say: string; at: string[] }
  | { kind: "run"; run: (r: R) => void }
  | { kind: "jump"; to: string; when: (r: R) => boolean }
  | { kind: "choose"; to: string }
  | { kind: "check"; say: string; holds: (r: R) => boolean }
  | { kind: "end" };

/** The name of a place in memory, or how to find it. */
type At<R> = (r: R) => string;

const always = () => true;
const nothing = () => {};

/** A thread's steps. Every method adds one, and goes on from there. */
export class Program<R extends { [name in keyof R]: number }> {
  readonly name: string;
  readonly registers: R;
  readonly steps: Step<R>[] = [];
  readonly labels = new Map<string, number>();

  /** `registers`: as they are at the beginning. */
  constructor(name: string, registers: R) {
    this.name = name;
    this.registers = registers;
  }

  /** A place to jump to. */
  label(name: string): void {
    if (this.labels.has(name)) throw new Error(`label ${name} is there twice`);
    this.labels.set(name, this.steps.length);
  }

  /** A label's name that is not taken: for steps that are there several times. */
  fresh(name: string): string {
    return `${name} ${this.steps.length}`;
  }

  /** Reads one place. */
  load(say: string, at: string | At<R>, order: Order, then: (r: R, value: number) => void): void {
    this.steps.push({ kind: "load", say, at: placed(at), order, then });
  }

  /** Writes one place. */
  store(say: string, at: string | At<R>, order: Order, value: number | ((r: R) => number)): void {
    const given = typeof value === "number" ? () => value : value;
    this.steps.push({ kind: "store", say, at: placed(at), order, value: given });
  }

  /** Reads and writes one place, in one. */
  rmw(
    say: string,
    at: string,
    update: (old: number) => number,
    then: (r: R, old: number) => void = nothing,
  ): void {
    this.steps.push({ kind: "rmw", say, at: placed(at), order: SC, update, then });
  }

  /** `Atomics.wait`: goes to sleep if the place holds `expected`, else goes on. */
  wait(say: string, at: string, expected: (r: R) => number): void {
    this.steps.push({ kind: "wait", say, at: placed(at), expected });
  }

  /** `Atomics.notify`: all that sleep at the place go on. */
  notify(say: string, at: string): void {
    this.steps.push({ kind: "notify", say, at: placed(at) });
  }

  /** poll(2): sleeps until one of the places is not 0. */
  block(say: string, ...at: string[]): void {
    this.steps.push({ kind: "block", say, at });
  }

  /** Works on the registers. */
  run(run: (r: R) => void): void {
    this.steps.push({ kind: "run", run });
  }

  /** Goes on at a label, if `when` holds. */
  jump(to: string, when: (r: R) => boolean = always): void {
    this.steps.push({ kind: "jump", to, when });
  }

  /** Goes on at a label, or does not: both are explored. Time, or a limit, decides it. */
  choose(to: string): void {
    this.steps.push({ kind: "choose", to });
  }

  /** What must hold here. */
  check(say: string, holds: (r: R) => boolean): void {
    this.steps.push({ kind: "check", say, holds });
  }

  /** The thread is done. */
  end(): void {
    this.steps.push({ kind: "end" });
  }
}

function placed<R>(at: string | At<R>): At<R> {
  return typeof at === "string" ? () => at : at;
}
