// io-wq with the test's own time and threads: growth, idling, hashes, limits, death.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { WORKER_BLOCKED_MS, WORKER_IDLE_TIMEOUT_MS } from "#dist/io-uring/io-wq.js";
import { doPrlimit } from "#dist/kernel/rlimit.js";
import { errno } from "#dist/spec/errno.js";
import { SIGKILL } from "#dist/spec/sched.js";
import { IoWqFixture, settle } from "../helpers/io-wq-fixture.js";
import { seedOf } from "../helpers/seed.js";

const SEED = seedOf("io-wq");

const SIGUSR1 = 10;
const names = (prefix: string, count: number) =>
  Array.from({ length: count }, (_, i) => `${prefix}${i}`);
const cancelled = (...list: string[]) => list.map((name) => [name, -errno.ECANCELED]);

describe("growth", () => {
  test("iw-06b: up to the limit; a raised limit counts from the next work on", () => {
    const fixture = new IoWqFixture();
    fixture.wq.maxWorkers(2, 3);
    for (const name of names("open", 8)) fixture.enqueue(name, { concurrent: true });
    fixture.clock.pass(100);
    expect(fixture.wq.workers).toEqual({ bounded: 2, unbounded: 0 });
    fixture.enqueue("read", { unbound: true, concurrent: true });
    fixture.clock.pass(100);
    expect(fixture.wq.workers).toEqual({ bounded: 2, unbounded: 1 });
    fixture.wq.maxWorkers(5, 0);
    fixture.clock.pass(100);
    expect(fixture.wq.workers).toEqual({ bounded: 2, unbounded: 1 });
    fixture.enqueue("one more", { concurrent: true });
    fixture.clock.pass(100);
    expect(fixture.wq.workers).toEqual({ bounded: 5, unbounded: 1 });
  });

  test("work that is not concurrent waits for the worker, until that sleeps", () => {
    const fixture = new IoWqFixture();
    for (const name of names("read", 3)) fixture.enqueue(name);
    expect(fixture.wq.workers.bounded).toBe(1);
    fixture.finish("read0");
    expect(fixture.began).toEqual(["read0", "read1"]);
    expect(fixture.wq.workers.bounded).toBe(1);
    fixture.clock.pass(WORKER_BLOCKED_MS);
    expect(fixture.wq.workers.bounded).toBe(2);
    expect(fixture.began).toEqual(["read0", "read1", "read2"]);
  });

  test("while another worker runs, one that falls asleep brings none", () => {
    const fixture = new IoWqFixture();
    fixture.enqueue("a", { concurrent: true });
    fixture.clock.pass(WORKER_BLOCKED_MS / 2);
    fixture.enqueue("b", { concurrent: true });
    fixture.enqueue("c");
    fixture.clock.pass(WORKER_BLOCKED_MS / 2);
    expect(fixture.wq.workers.bounded).toBe(2);
    fixture.clock.pass(WORKER_BLOCKED_MS / 2);
    expect(fixture.began).toEqual(["a", "b", "c"]);
  });

  test("a free worker is taken before one is made, the last busy one first", () => {
    const fixture = new IoWqFixture();
    for (const name of ["a", "b"]) fixture.enqueue(name, { concurrent: true });
    fixture.finish("a");
    fixture.finish("b");
    for (const name of ["c", "d"]) fixture.enqueue(name, { concurrent: true });
    expect(fixture.wq.workers.bounded).toBe(2);
    expect([...fixture.doing.keys()]).toEqual(["c", "d"]);
  });

  test("id-03c: a worker is a thread of the owner, named after it, with its files", () => {
    const fixture = new IoWqFixture();
    fixture.enqueue("read");
    const [task] = fixture.wq.tasks;
    expect(task?.comm).toBe(`iou-wrk-${fixture.owner.pid}`);
    expect(task?.flags).toBe(0x4050);
    expect([task?.tgid, task?.exitSignal]).toEqual([fixture.owner.pid, -1]);
    expect(task?.files).toBe(fixture.owner.files);
    expect(task?.mm).toBe(fixture.owner.mm);
    expect(fixture.nproc).toBe(2);
  });
});

describe("idle workers", () => {
  test("end after 5 s, but for the last", async () => {
    const fixture = new IoWqFixture();
    for (const name of names("a", 3)) fixture.enqueue(name, { concurrent: true });
    fixture.enqueue("u", { unbound: true });
    for (const name of [...names("a", 3), "u"]) fixture.finish(name);
    fixture.clock.pass(WORKER_IDLE_TIMEOUT_MS - 1);
    expect(fixture.wq.workers).toEqual({ bounded: 3, unbounded: 1 });
    fixture.clock.pass(1);
    await settle();
    expect(fixture.wq.workers).toEqual({ bounded: 1, unbounded: 1 });
    expect(fixture.nproc).toBe(3);
    fixture.clock.pass(10 * WORKER_IDLE_TIMEOUT_MS);
    expect(fixture.wq.workers).toEqual({ bounded: 1, unbounded: 1 });
    fixture.enqueue("again");
    expect(fixture.doing.has("again")).toBe(true);
  });

  test("are all ended by exit, which cancels what waits and lets run what runs", async () => {
    const fixture = new IoWqFixture(1);
    for (const name of ["a", "b"]) fixture.enqueue(name);
    fixture.enqueue("u", { unbound: true });
    fixture.finish("u", 7);
    const exited = fixture.wq.exit();
    expect(fixture.results).toEqual([["u", 7], ...cancelled("b")]);
    fixture.enqueue("late");
    await exited;
    await settle();
    expect(fixture.results.slice(2)).toEqual(cancelled("late", "a"));
    expect(fixture.wq.workers).toEqual({ bounded: 0, unbounded: 0 });
    expect(fixture.nproc).toBe(1);
  });
});

describe("hashed work", () => {
  test("of one hash is done by one worker, in its order; other work goes on beside it", () => {
    const fixture = new IoWqFixture();
    const more = { concurrent: true, hash: 5 };
    fixture.enqueue("w0", more);
    fixture.enqueue("w1", more);
    fixture.enqueue("other", { concurrent: true, hash: 6 });
    fixture.enqueue("w2", more);
    fixture.enqueue("plain", { concurrent: true });
    expect(fixture.began).toEqual(["w0", "other", "plain"]);
    fixture.finish("other");
    expect(fixture.doing.size).toBe(2);
    fixture.finish("w0");
    fixture.finish("w1");
    expect(fixture.began.slice(3)).toEqual(["w1", "w2"]);
  });

  test("that waits for its hash makes no worker, and wakes a free one when it may go", () => {
    const fixture = new IoWqFixture();
    fixture.enqueue("free", { concurrent: true });
    fixture.enqueue("w0", { concurrent: true, hash: 1 });
    fixture.finish("free");
    fixture.enqueue("w1", { hash: 1 });
    fixture.clock.pass(50);
    expect(fixture.wq.workers.bounded).toBe(2);
    expect(fixture.doing.size).toBe(1);
    fixture.finish("w0");
    expect(fixture.doing.has("w1")).toBe(true);
  });
});

describe("no worker can be made", () => {
  const atLimit = () => new IoWqFixture(4, { rlimits: { NPROC: { cur: 1, max: 9 } } });

  test("rl-11: after three more attempts, all that is pending is cancelled", () => {
    const fixture = atLimit();
    fixture.enqueue("a");
    fixture.enqueue("b", { concurrent: true });
    fixture.clock.pass(29);
    expect(fixture.results).toEqual([]);
    fixture.clock.pass(1);
    fixture.clock.pass(50);
    expect(fixture.results).toEqual(cancelled("a", "b"));
    expect([fixture.wq.workers.bounded, fixture.nproc]).toEqual([0, 1]);
  });

  test("a signal that is to be handled first: tried for again, as at a limit", () => {
    const fixture = new IoWqFixture();
    const { owner, kernel } = fixture;
    owner.sighand.actions.set(SIGUSR1, () => {});
    owner.inKernel = true;
    kernel.kill(owner.pid, SIGUSR1);
    fixture.enqueue("a");
    fixture.clock.pass(5);
    expect([fixture.results, fixture.began]).toEqual([[], []]);
    owner.inKernel = false; // it takes the signal
    fixture.clock.pass(10);
    expect([...fixture.doing.keys()]).toEqual(["a"]);
  });

  test("an attempt that succeeds does all of it", () => {
    const fixture = atLimit();
    fixture.enqueue("a");
    fixture.clock.pass(10);
    doPrlimit(fixture.kernel.init, fixture.owner, "NPROC", { cur: 2, max: 9 });
    fixture.clock.pass(5);
    expect([...fixture.doing.keys()]).toEqual(["a"]);
  });

  test("an owner that has exited gets none: cancelled at once", () => {
    const fixture = new IoWqFixture();
    fixture.kernel.exitGroup(fixture.owner, 0);
    fixture.enqueue("a");
    expect(fixture.results).toEqual(cancelled("a"));
  });

  test("a worker that is there goes on alone", () => {
    const fixture = new IoWqFixture(4, { rlimits: { NPROC: { cur: 2, max: 9 } } });
    for (const name of ["a", "b"]) fixture.enqueue(name, { concurrent: true });
    fixture.clock.pass(100);
    expect(fixture.results).toEqual([]);
    fixture.finish("a");
    expect([...fixture.doing.keys()]).toEqual(["b"]);
  });
});

describe("IORING_REGISTER_IOWQ_MAX_WORKERS", () => {
  test("answers what was, leaves what is 0, and cuts to RLIMIT_NPROC as it is", () => {
    const fixture = new IoWqFixture(4, { rlimits: { NPROC: { cur: 10, max: 99 } } });
    expect(fixture.wq.maxWorkers(0, 0)).toEqual([4, 10]);
    expect(fixture.wq.maxWorkers(7, 0)).toEqual([4, 10]);
    doPrlimit(fixture.kernel.init, fixture.owner, "NPROC", { cur: 5, max: 99 });
    expect(fixture.wq.maxWorkers(0, 50)).toEqual([7, 10]);
    expect(fixture.wq.maxWorkers(0, 0)).toEqual([7, 5]);
  });

  test.each([
    [-1, 0],
    [0, 2 ** 31],
    [1.5, 0],
  ])("refuses %s and %s", (bounded, unbounded) => {
    expect(() => new IoWqFixture().wq.maxWorkers(bounded, unbounded)).toThrow(/^EINVAL/);
  });
});

describe("cancelling", () => {
  test("tells what waited from what is being done and what is not there", () => {
    const fixture = new IoWqFixture(1);
    for (const name of ["a", "b"]) fixture.enqueue(name);
    const cancel = (name: string) => fixture.wq.cancel((work) => work.name === name);
    expect([cancel("b"), cancel("a"), cancel("c")]).toEqual(["cancelled", "running", "none"]);
    expect(fixture.results).toEqual(cancelled("b"));
  });

  test("work behind another of its hash frees the hash all the same", () => {
    const fixture = new IoWqFixture(1);
    for (const name of ["a", "b", "c"]) fixture.enqueue(name, { hash: 3 });
    fixture.finish("a");
    expect(fixture.wq.cancel((work) => work.name === "c")).toBe("cancelled");
    fixture.finish("b");
    fixture.enqueue("d", { hash: 3 });
    expect(fixture.doing.has("d")).toBe(true);
  });
});

test("SIGKILL to the process ends workers and work, and leaves no count", async () => {
  const fixture = new IoWqFixture(1);
  for (const name of ["a", "b"]) fixture.enqueue(name);
  fixture.enqueue("u", { unbound: true });
  fixture.kernel.kill(fixture.owner.pid, SIGKILL);
  await settle();
  expect(fixture.results.sort()).toEqual(cancelled("a", "b", "u"));
  expect(fixture.wq.workers).toEqual({ bounded: 0, unbounded: 0 });
  expect(fixture.nproc).toBe(0);
});

test("a thread that breaks takes its work along, and another does the rest", async () => {
  const fixture = new IoWqFixture(1);
  fixture.enqueue("first");
  for (const name of ["a", "b"]) fixture.enqueue(name, { hash: 1 });
  fixture.enqueue("c");
  fixture.finish("first");
  await fixture.wq.tasks[0]?.thread?.terminate(new Error("broke"));
  await settle();
  expect(fixture.results.slice(1)).toEqual(cancelled("b", "a"));
  expect([...fixture.doing.keys()]).toEqual(["c"]);
  expect([fixture.wq.workers.bounded, fixture.nproc]).toEqual([1, 2]);
});

describe("random programs", () => {
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        op: fc.constant("enqueue" as const),
        unbound: fc.boolean(),
        concurrent: fc.boolean(),
        hash: fc.option(fc.nat(2), { nil: undefined }),
      }),
    },
    { weight: 4, arbitrary: fc.record({ op: fc.constant("finish" as const), which: fc.nat(99) }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("cancel" as const), which: fc.nat(40) }) },
    { weight: 2, arbitrary: fc.record({ op: fc.constant("pass" as const), ms: fc.nat(6000) }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("limit" as const), cur: fc.nat(6) }) },
  );

  test("complete each work once, never two of a hash at once, none above the limits", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60, size: "max" }), async (program) => {
        const fixture = new IoWqFixture(2, { rlimits: { NPROC: { cur: 4, max: 99 } } });
        const hashes = new Map<string, number | undefined>();
        for (const [i, one] of program.entries()) {
          const all = [...fixture.doing.keys()];
          if (one.op === "enqueue") {
            const { op: _, hash, ...more } = one;
            hashes.set(`w${i}`, hash);
            fixture.enqueue(`w${i}`, hash === undefined ? more : { ...more, hash });
          } else if (one.op === "finish" && all.length > 0) {
            fixture.finish(all[one.which % all.length] as string);
          } else if (one.op === "cancel") {
            fixture.wq.cancel(({ name }) => name === `w${one.which}`);
          } else if (one.op === "pass") {
            fixture.clock.pass(one.ms);
            await settle();
          } else if (one.op === "limit") {
            doPrlimit(fixture.kernel.init, fixture.owner, "NPROC", { cur: one.cur, max: 99 });
          }
          const busy = [...fixture.doing.keys()].flatMap((name) => hashes.get(name) ?? []);
          expect(new Set(busy).size, `step ${i}: two of one hash`).toBe(busy.length);
          expect(fixture.wq.workers.bounded).toBeLessThanOrEqual(2);
          expect(fixture.wq.workers.unbounded).toBeLessThanOrEqual(4);
        }
        await drain(fixture);
        expect(fixture.results.map(([name]) => name).sort()).toEqual([...hashes.keys()].sort());
        await fixture.wq.exit();
        await settle();
        expect(fixture.nproc).toBe(1);
      }),
      { seed: SEED, numRuns: 300 },
    );
  }, 60_000);

  /** Ends all work there is, and what comes after it. */
  async function drain(fixture: IoWqFixture): Promise<void> {
    doPrlimit(fixture.kernel.init, fixture.owner, "NPROC", { cur: 50, max: 99 });
    for (let round = 0; round < 200; round++) {
      for (const name of [...fixture.doing.keys()]) fixture.finish(name);
      fixture.clock.pass(31);
      await settle();
    }
  }
});
