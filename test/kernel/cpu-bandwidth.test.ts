// Budgets of CPU time by a clock of our own: periods, debts, the path up to the root.

import { describe, expect, test } from "vitest";
import { CpuAccount } from "#dist/kernel/cpu-account.js";
import { CGROUPS_MAX, CpuBandwidth } from "#dist/kernel/cpu-bandwidth.js";
import { CurrentTask } from "#dist/kernel/task-thread.js";
import { TASK_WORDS_BYTES, WORD_CGROUP, WORD_FLAGS, WORD_STATE } from "#dist/kernel/wait.js";
import { TASK_RUNNING } from "#dist/spec/sched.js";

/** The root, /a with 20 ms in 100 ms since 0, /a/b without a limit. */
function tree() {
  const groups = new CpuBandwidth();
  const a = groups.add(0);
  const b = groups.add(a);
  groups.setMax(a, { quotaUs: 20_000, periodUs: 100_000 }, 0);
  return { groups, a, b };
}

describe("a budget", () => {
  test("is used up, and there again in the next period; nothing is saved up", () => {
    const { groups, a } = tree();
    groups.charge(a, 19_999);
    expect(groups.throttle(a, 50_000)).toBeUndefined();
    groups.charge(a, 1);
    expect(groups.throttle(a, 50_000)).toEqual({ untilUs: 100_000, groups: [a] });
    expect(groups.throttle(a, 100_000)).toBeUndefined();
    // Nine periods go unused.
    expect(groups.throttle(a, 1_000_000)).toBeUndefined();
    groups.charge(a, 20_000);
    expect(groups.throttle(a, 1_000_001)?.untilUs).toBe(1_100_000);
  });

  test("what was run beyond it is paid by the periods that follow", () => {
    const { groups, a } = tree();
    groups.charge(a, 50_000); // two and a half quotas
    expect(groups.throttle(a, 10)?.untilUs).toBe(100_000);
    expect(groups.throttle(a, 100_000)?.untilUs).toBe(200_000); // owes 30 ms
    expect(groups.throttle(a, 200_000)).toBeUndefined(); // owes 10 ms, has 20
    groups.charge(a, 10_000);
    expect(groups.throttle(a, 200_001)?.untilUs).toBe(300_000);
    expect(groups.stat(a)).toMatchObject({ usageUsec: 60_000, nrPeriods: 2, nrThrottled: 3 });
  });

  test("holds for all groups below, whoever ran", () => {
    const { groups, a, b } = tree();
    const c = groups.add(a);
    groups.charge(b, 15_000);
    groups.charge(c, 5000);
    expect(groups.throttle(b, 1)).toEqual({ untilUs: 100_000, groups: [a] });
    expect(groups.throttle(c, 1)).toEqual({ untilUs: 100_000, groups: [a] });
    expect(groups.throttle(0, 1)).toBeUndefined();
    expect([0, a, b, c].map((group) => groups.stat(group).usageUsec)).toEqual([
      20_000, 20_000, 15_000, 5000,
    ]);
    expect([a, b, c].map((group) => groups.stat(group).nrThrottled)).toEqual([1, 0, 0]);
  });

  test("of two groups on the path: the later end counts", () => {
    const { groups, a, b } = tree();
    groups.setMax(b, { quotaUs: 1000, periodUs: 1_000_000 }, 0);
    groups.charge(b, 20_000);
    const throttle = groups.throttle(b, 1) ?? expect.unreachable();
    expect(throttle).toEqual({ untilUs: 1_000_000, groups: [b, a] });
    groups.addThrottled(throttle, 500);
    expect([a, b].map((group) => groups.stat(group).throttledUsec)).toEqual([500, 500]);
  });

  test("is lifted, and set anew: a period begins", () => {
    const { groups, a } = tree();
    groups.charge(a, 90_000);
    groups.setMax(a, { quotaUs: Number.POSITIVE_INFINITY, periodUs: 50_000 }, 10);
    expect([groups.isLimited(a), groups.throttle(a, 10)]).toEqual([false, undefined]);
    expect(groups.max(a)).toEqual({ quotaUs: Number.POSITIVE_INFINITY, periodUs: 50_000 });
    groups.charge(a, 90_000); // nobody counts it against a quota
    groups.setMax(a, { quotaUs: 5000, periodUs: 50_000 }, 20);
    expect(groups.throttle(a, 20)).toBeUndefined();
    groups.charge(a, 5000);
    expect(groups.throttle(a, 20)?.untilUs).toBe(50_020);
  });

  test("the same words in another thread's hands, also after they have grown", () => {
    const { groups, a } = tree();
    const other = new CpuBandwidth(groups.buffer);
    let last = a;
    for (let i = 0; i < 1000; i++) last = groups.add(last);
    groups.charge(last, 20_000);
    expect(other.throttle(last, 1)).toEqual({ untilUs: 100_000, groups: [a] });
  });

  test("EAGAIN when there are too many groups", () => {
    const groups = new CpuBandwidth();
    for (let i = 1; i < CGROUPS_MAX; i++) groups.add(0);
    expect(() => groups.add(0)).toThrow(/^EAGAIN/);
  });
});

/** A task in /a/b by clocks that stand still unless moved; `ran`: its CPU time. */
function account() {
  const { groups, a, b } = tree();
  const words = new SharedArrayBuffer(TASK_WORDS_BYTES);
  new Int32Array(words)[WORD_CGROUP] = b;
  const time = { ran: 0, now: 0 };
  const cpu = { read: () => time.ran, isWall: false };
  const account = new CpuAccount(words, groups.buffer, { cpu, now: () => time.now });
  return { groups, a, b, words, time, account };
}

describe("a task", () => {
  test("is charged to the group where it is now", () => {
    const { groups, a, b, words, time, account: task } = account();
    const other = groups.add(0);
    time.ran = 700;
    task.charge();
    new Int32Array(words)[WORD_CGROUP] = other;
    time.ran = 1000;
    task.charge();
    const usage = [0, a, b, other].map((group) => groups.stat(group).usageUsec);
    expect(usage).toEqual([1000, 700, 700, 300]);
  });

  test("with a limit looks at its clock every half millisecond, at no pass before", () => {
    const { groups, b, time, account: task } = account();
    time.ran = 30_000;
    for (time.now = 1; time.now < 500; time.now++) expect(task.tick()).toBe(true);
    expect(groups.stat(b).usageUsec).toBe(0);
    expect(task.tick()).toBe(false);
    expect(groups.stat(b).usageUsec).toBe(30_000);
    expect(task.waitMs).toBe(99.5);
    time.now = 100_000;
    expect(task.tick()).toBe(true); // 10 ms are owed, 20 are there
  });

  test("without a limit finds one within 1024 passes", () => {
    const { groups, a, time, account: task } = account();
    groups.setMax(a, { quotaUs: Number.POSITIVE_INFINITY, periodUs: 100_000 }, 0);
    task.look();
    time.now = 500;
    task.look();
    groups.setMax(a, { quotaUs: 1000, periodUs: 100_000 }, 500);
    time.ran = 1000;
    let passes = 1;
    while (task.tick()) passes++;
    expect(passes).toBe(1024);
  });

  test("that is held counts how long, and does not sleep when it is told to end", () => {
    const { groups, a, words, time, account: task } = account();
    time.ran = 20_000;
    time.now = 600;
    expect(task.tick()).toBe(false);
    task.waitBy((ms) => {
      time.now += ms * 1000;
    });
    expect(groups.stat(a)).toMatchObject({ nrThrottled: 1, throttledUsec: 99_400 });
    time.ran = 500_000;
    time.now += 600;
    expect(task.tick()).toBe(false);
    new Int32Array(words)[WORD_FLAGS] = 1;
    new CurrentTask(words, task).hold(); // or the test would not end
    expect(new Int32Array(words)[WORD_STATE]).toBe(TASK_RUNNING);
  });
});
