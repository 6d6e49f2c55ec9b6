// Thread functions for tests: each runs in a thread of its own, as `fn(arg, current)`.
import { Waker } from "#dist/kernel/wait.js";

const TASK_RUNNING = 0;
const TASK_INTERRUPTIBLE = 1;

/** Sleeps until it is stopped; counts in arg.rounds how often it was woken. */
export function sleeper({ rounds }, current) {
  const count = new Int32Array(rounds);
  for (;;) {
    current.setState(TASK_INTERRUPTIBLE);
    if (current.shouldStop()) break;
    Atomics.add(count, 1, 1); // about to sleep
    Atomics.notify(count, 1);
    current.schedule();
    Atomics.add(count, 0, 1);
    Atomics.notify(count, 0);
  }
  current.setState(TASK_RUNNING);
}

/** Writes a mark into the memory it was given, through its own view of it. */
export async function marks({ memory, at, mark }) {
  await null;
  new Uint8Array(memory.buffer)[at] = mark;
  return 7;
}

export function throws({ message }) {
  throw new TypeError(message);
}

export async function rejects({ message }) {
  await null;
  throw new RangeError(message);
}

export function throwsNoError() {
  throw "just words";
}

export function exits({ code }) {
  process.exit(code);
}

export function eatsMemory() {
  const kept = [];
  for (;;) kept.push(new Array(10_000).fill(kept.length));
}

export function spins() {
  for (;;);
}

/** Sleeps on a word that nobody will ever change. */
export function sleepsDeeply() {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

/** Leaves a timer behind that would keep a thread alive. */
export function leavesTimer() {
  setInterval(() => {}, 1000);
}

/** Waits for what never comes, with nothing in its event loop. */
export const waitsForNothing = () => new Promise(() => {});

export function postsBack({ port }) {
  port.postMessage("moved");
  port.close();
}

export const notAFunction = 1;

/** Lets the other thread act between two steps: 0 to some 20 µs, another length each time. */
function pause(word, round) {
  for (let left = (round * 7919) % 2000; left > 0; left--) Atomics.load(word, 0);
}

/**
 * Sleeps until `turn` is `mine`, then gives it to the other and wakes that; `rounds` times.
 * Returns 0, or 1 when a sleep ran out while the turn was its own: its wake-up was lost.
 */
export function pingPong({ turn, mine, rounds, other, timeoutMs }, current) {
  const word = new Int32Array(turn);
  const waker = new Waker(other);
  for (let round = 0; round < rounds; round++) {
    for (;;) {
      current.setState(TASK_INTERRUPTIBLE);
      pause(word, round);
      if (Atomics.load(word, 0) === mine) break;
      pause(word, round + 1);
      if (!current.schedule(timeoutMs) && Atomics.load(word, 0) === mine) return 1;
    }
    current.setState(TASK_RUNNING);
    Atomics.store(word, 0, 1 - mine);
    pause(word, round + 2);
    waker.wake();
  }
  return 0;
}

/** Adds `rounds` jobs, one by one, with a wake-up each and pauses of every length in between. */
export function producer({ jobs, rounds, sleeper }) {
  const word = new Int32Array(jobs);
  const waker = new Waker(sleeper);
  for (let round = 0; round < rounds; round++) {
    Atomics.add(word, 0, 1);
    waker.wake();
    pause(word, round);
  }
}

/** Takes all jobs of two producers. Returns 0, or 1 when a sleep ran out with work at hand. */
export function consumer({ jobs, total, timeoutMs }, current) {
  const word = new Int32Array(jobs);
  for (let taken = 0; taken < total; ) {
    current.setState(TASK_INTERRUPTIBLE);
    const ready = Atomics.load(word, 0);
    if (ready === taken) {
      if (!current.schedule(timeoutMs) && Atomics.load(word, 0) !== taken) return 1;
      continue;
    }
    current.setState(TASK_RUNNING);
    taken = ready;
  }
  return 0;
}

/** Is in the middle of what must not be cut for a while, and says when it has done it. */
export function uncuts({ words }, current) {
  const shared = new Int32Array(words);
  current.uncut(() => {
    Atomics.store(shared, 0, 1);
    Atomics.notify(shared, 0);
    Atomics.wait(shared, 1, 0, 100);
    Atomics.store(shared, 1, 1);
  });
  for (;;) Atomics.wait(shared, 2, 0);
}
