import { describe, expect, test } from "vitest";
import { Kernel } from "#dist/kernel/kernel.js";
import { CurrentTask } from "#dist/kernel/task-thread.js";
import { type VhostTask, vhostTaskCreate, vhostTaskStart } from "#dist/kernel/vhost-task.js";
import { TASK_WORDS_BYTES, Waker, WORD_STATE } from "#dist/kernel/wait.js";
import { TASK_INTERRUPTIBLE, TASK_RUNNING } from "#dist/spec/sched.js";

const module = new URL("../helpers/thread-fns.mjs", import.meta.url).href;
/** Far longer than a wake-up takes: one that has not come by then, though its work has, is lost. */
const timeoutMs = 5000;

describe("one thread", () => {
  const park = () => {
    const words = new SharedArrayBuffer(TASK_WORDS_BYTES);
    return { current: new CurrentTask(words), waker: new Waker(words), words };
  };

  test("a wake-up after the state was set ends the sleep before it begins", () => {
    const { current, waker } = park();
    current.setState(TASK_INTERRUPTIBLE);
    waker.wake();
    expect(current.schedule(timeoutMs)).toBe(true);
  });

  test("a wake-up before the state was set does not: its work was there to be seen", () => {
    const { current, waker } = park();
    waker.wake();
    current.setState(TASK_INTERRUPTIBLE);
    expect(current.schedule(1)).toBe(false);
  });

  test("a sleep that runs out, and one that ends, leave the task running", () => {
    const { current, words } = park();
    current.setState(TASK_INTERRUPTIBLE);
    expect(Atomics.load(new Int32Array(words), WORD_STATE)).toBe(TASK_INTERRUPTIBLE);
    expect(current.schedule(1)).toBe(false);
    expect(Atomics.load(new Int32Array(words), WORD_STATE)).toBe(TASK_RUNNING);
    expect(current.schedule()).toBe(true); // running: not put to sleep
  });
});

interface Side {
  name: string;
  arg: (all: VhostTask[]) => object;
}

/**
 * Runs the sides' functions at once; all are made first, since one's `arg` needs another's words.
 */
async function runTogether(sides: Side[]): Promise<number[]> {
  const kernel = new Kernel();
  const owner = kernel.spawn({ memoryBytes: 65536 });
  const made = sides.map(({ name }) => {
    const arg = {}; // cloned at the start only
    return { arg, vtsk: vhostTaskCreate(kernel, owner, { name, fn: { module, name }, arg }) };
  });
  const all = made.map(({ vtsk }) => vtsk);
  for (const [index, side] of sides.entries()) Object.assign(made[index]?.arg ?? {}, side.arg(all));
  for (const vtsk of all) vhostTaskStart(vtsk);
  const exits = await Promise.all(all.map(({ exited }) => exited));
  for (const vtsk of all) await vtsk[Symbol.asyncDispose]();
  for (const { error } of exits) if (error) throw error;
  return exits.map(({ code }) => code);
}

describe("no wake-up is lost", () => {
  test("two threads that sleep in turns, 20,000 rounds", async () => {
    const turn = new SharedArrayBuffer(4);
    const side = (mine: number) => ({
      name: "pingPong",
      arg: (all: VhostTask[]) => ({
        turn,
        mine,
        rounds: 20_000,
        timeoutMs,
        other: all[1 - mine]?.words,
      }),
    });
    expect(await runTogether([side(0), side(1)])).toEqual([0, 0]);
  });

  test("two threads that wake a third at any moment, 20,000 times", async () => {
    const jobs = new SharedArrayBuffer(4);
    const producer = {
      name: "producer",
      arg: (all: VhostTask[]) => ({ jobs, rounds: 10_000, sleeper: all[0]?.words }),
    };
    const consumer = { name: "consumer", arg: () => ({ jobs, total: 20_000, timeoutMs }) };
    expect(await runTogether([consumer, producer, producer])).toEqual([0, 0, 0]);
  });
});
