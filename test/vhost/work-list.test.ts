import { expect, test } from "vitest";
import { WorkList } from "#dist/vhost/work-list.js";

const queues = Array.from({ length: 32 }, (_, index) => ({ index }));
const [first, second, third] = queues as [{ index: number }, { index: number }, { index: number }];
const last = queues[31] as { index: number };

test("queued twice is queued once, in the order of the first time", () => {
  const list = new WorkList();
  const added = [third, first, third, last, first, second, last].map((queue) => list.add(queue));
  expect(added).toEqual([true, true, false, true, false, true, false]);
  expect(list.length).toBe(4);
  expect([...list.take()]).toEqual([third, first, last, second]);
  expect(list.length).toBe(0);
});

test("a queue that is taken may be queued again before its turn is over", () => {
  const list = new WorkList();
  for (const queue of [first, second]) list.add(queue);
  const turns: number[] = [];
  for (let batches = 0; batches < 3; batches++) {
    for (const queue of list.take()) {
      turns.push(queue.index);
      expect([list.add(queue), list.add(queue)]).toEqual([true, false]);
    }
  }
  expect(turns).toEqual([0, 1, 0, 1, 0, 1]);
  expect(list.length).toBe(2);
});

test("what is taken off leaves the others in their order, and may come again", () => {
  const list = new WorkList();
  for (const queue of queues) list.add(queue);
  for (const { index } of queues) if (index % 2 === 1) list.remove(index);
  list.remove(1);
  expect(list.add(last)).toBe(true);
  const even = queues.filter(({ index }) => index % 2 === 0);
  expect([...list.take()]).toEqual([...even, last]);
  list.add(first);
  list.clear();
  expect([list.length, list.add(first)]).toEqual([0, true]);
});
