import { describe, expect, test } from "vitest";
import { EventFd } from "#dist/kernel/eventfd.js";

const LAST = 2n ** 64n - 2n;

describe("an eventfd", () => {
  test("adds what is written, and gives it all to one read", () => {
    const eventfd = new EventFd(2n);
    eventfd.write(3n);
    eventfd.signal();
    expect(eventfd.value).toBe(6n);
    expect(eventfd.read()).toBe(6n);
    expect(() => eventfd.read()).toThrow("EAGAIN");
  });

  test("tells of every write, of 0 and of the kernel's, and of no read", () => {
    const eventfd = new EventFd();
    let woken = 0;
    const waiter = () => woken++;
    eventfd.onWrite(waiter);
    eventfd.write(0n);
    eventfd.signal();
    eventfd.read();
    expect(woken).toBe(2);
    eventfd.offWrite(waiter);
    eventfd.write(1n);
    expect(woken).toBe(2);
  });

  test("is full at 2^64 - 2: a program is told so, the kernel loses its signal", () => {
    const eventfd = new EventFd(LAST - 1n);
    expect(() => eventfd.write(2n)).toThrow("EAGAIN");
    eventfd.write(1n);
    eventfd.signal();
    expect(eventfd.read()).toBe(LAST);
  });

  test.each([-1n, 2n ** 64n - 1n])("does not take %d", (value) => {
    const eventfd = new EventFd();
    expect(() => eventfd.write(value)).toThrow("EINVAL");
    expect(eventfd.value).toBe(0n);
  });

  test("is seen by other threads: the counter is in shared memory", () => {
    const eventfd = new EventFd();
    eventfd.write(7n);
    expect(new BigUint64Array(eventfd.buffer)[0]).toBe(7n);
  });
});
