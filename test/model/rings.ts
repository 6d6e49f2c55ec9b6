// What the steps of both threads and both kinds of rings share: names, numbers, orders. The table
// in handshake.ts says which function of the product each step stands for.

import type { Order, Program } from "./program.js";
import { SC } from "./program.js";

/** Registers of the driver's thread. Counts that never wrap; what is written to memory does. */
export interface DriverRegisters {
  /** Added to the ring: VQ_AVAIL_NEXT. */
  next: number;
  /** Published: VQ_AVAIL_PUBLISHED. */
  published: number;
  /** Published at the last question: VQ_KICKED. */
  kicked: number;
  /** Got back: VQ_LAST_USED. */
  got: number;
  /** Still to be added, of this burst. */
  adding: number;
  /** Seen to be used, and still to be got. */
  pending: number;
  /** What was read from an element. */
  value: number;
  /** Whether to notify; whether there is something to do. */
  isNeeded: number;
  isBusy: number;
  /** CALL_SEQUENCE, before looking. */
  sequence: number;
}

/** Registers of the worker's thread. */
export interface WorkerRegisters {
  /** Popped: VQ_LAST_AVAIL. */
  last: number;
  /** Seen to be available: VQ_AVAIL_SEEN. */
  available: number;
  /** Staged as used: VQ_USED_NEXT. */
  used: number;
  /** Published: VQ_USED_PUBLISHED; and that at the last question: VQ_SIGNALLED. */
  published: number;
  signalled: number;
  /** VQ_SIGNALLED_VALID. */
  isDecided: number;
  value: number;
  isNeeded: number;
  isBusy: number;
  /** The ring was started; else it awaits its first kick. */
  isStarted: number;
  /** Its queue is due a turn; and is on the work list, because a turn ended at its limit. */
  isDue: number;
  isUnfinished: number;
  /** Kicks that the notifier holds. */
  kicks: number;
  /** WAKE, as `setState` read it. */
  seen: number;
}

/** A driver's program. */
export type Driver = Program<DriverRegisters>;
/** A worker's program. */
export type Worker = Program<WorkerRegisters>;

/** What is wrong with the protocol, on purpose. The table in handshake.ts has the barriers. */
export type Flaw =
  | "A1: publish does not release"
  | "A1: idx is not acquired"
  | "A2: publish is not ordered"
  | "A2: the wish is read early"
  | "A2: the wish is stored late"
  | "A2: the second look is early"
  | "U1: publish does not release"
  | "U1: idx is not acquired"
  | "U2: publish is not ordered"
  | "U2: the wish is read early"
  | "U2: the wish is stored late"
  | "U2: the second look is early"
  | "S1: WAKE is read after the look"
  | "S1: woken before the work is stored"
  | "S2: STATE is stored late"
  | "S2: STATE is read early"
  | "S2: STATE is read before the bump"
  | "setState after the look"
  | "STATE alone after the look"
  | "kick: asked before publish"
  | "enableKick: no second look"
  | "enableKick: the wish after the second look"
  | "enableKick: left out"
  | "enableKick: one too far"
  | "park: kicks are not looked for"
  | "park: the eventfd is drained before the sleep"
  | "call: asked before publish"
  | "enableCall: no second look"
  | "enableCall: the wish after the second look"
  | "enableCall: left out"
  | "enableCall: one too far"
  | "sleep: the sequence is read after the look"
  | "sleep: the eventfd is drained before the sleep";

/** One model. */
export interface Handshake {
  ring: "split" | "packed";
  eventIdx: boolean;
  /** Entries of the ring. */
  num: number;
  /** Requests, of which as many as there is room for go in one burst, or fewer. */
  requests: number;
  /** An idle worker may park at any moment; or it polls for ever. */
  worker: "parks" | "polls";
  /** A driver that waits for answers may sleep at any moment; or it polls for ever. */
  driver: "sleeps" | "polls";
  /** Words and Atomics.wait between threads, or eventfds and poll(2) between processes. */
  notifier: "doorbell" | "eventfd";
  /** The worker starts the ring at its first kick. */
  awaitsKick: boolean;
  /** When all is done the driver's thread stops the worker, which must end. */
  stops: boolean;
  /** What is wrong. */
  flaws: readonly Flaw[];
}

/** What both programs are made of. */
export interface Parts extends Handshake {
  ringSteps: RingSteps;
  has(flaw: Flaw): boolean;
}

/** TASK_RUNNING. */
export const RUNNING = 0;
/** TASK_INTERRUPTIBLE. */
export const INTERRUPTIBLE = 1;

/** Counts of wake-ups wrap here at four: fewer than so many come between two looks. */
export const bumped = (count: number) => (count + 1) % 4;

/** What a ring is like, and what is wrong with it. */
export interface RingShape {
  eventIdx: boolean;
  /** Entries. */
  num: number;
  has(flaw: Flaw): boolean;
}

/** Writes the steps of one kind of ring into the programs of both sides. */
export interface RingSteps {
  /** Places and their first values, after `reset` and `start`. */
  readonly memory: Record<string, number>;
  /** Places that hold plain data, whatever the flaws are. */
  readonly plain: readonly string[];
  addBuf(p: Driver): void;
  publish(p: Driver): void;
  /** Into `isNeeded`. */
  kickNeeded(p: Driver): void;
  getBufs(p: Driver): void;
  /** Into `isBusy`. */
  enableCall(p: Driver): void;
  disableCall(p: Driver): void;

  start(p: Worker): void;
  /** Sets `isDue` when there is work. */
  availLen(p: Worker): void;
  getDescs(p: Worker): void;
  addUsed(p: Worker): void;
  devicePublish(p: Worker): void;
  /** Into `isNeeded`. */
  callNeeded(p: Worker): void;
  /** Sets `isBusy` when there is work. */
  enableKick(p: Worker): void;
  disableKick(p: Worker): void;
}

/** The orders of the accesses that belong to a pair: A of available, U of used entries. */
export function ordersOf(side: "A" | "U", has: RingShape["has"]) {
  const order = (noRelease: Flaw | undefined, noOrder: Flaw | undefined): Order => ({
    acqRel: noRelease === undefined || !has(noRelease),
    sc: noOrder === undefined || !has(noOrder),
  });
  const acquire: Flaw = `${side}1: idx is not acquired`;
  return {
    publish: order(`${side}1: publish does not release`, `${side}2: publish is not ordered`),
    idx: order(acquire, undefined),
    secondLook: order(acquire, `${side}2: the second look is early`),
    readWish: order(undefined, `${side}2: the wish is read early`),
    storeWish: order(undefined, `${side}2: the wish is stored late`),
  };
}

/** No flaw ever touches it. */
export const HINT = SC;
