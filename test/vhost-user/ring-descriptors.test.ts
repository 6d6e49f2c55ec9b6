import { setTimeout as sleep } from "node:timers/promises";
import { beforeEach, expect, test } from "vitest";
import { type FrontEnd, u32s, u64s } from "#dist/bench/front-end.js";
import { drainEventfd, signalEventfd } from "#dist/linux/eventfd.js";
import { VHOST_USER_VRING_NOFD_MASK as NOFD } from "#dist/spec/vhost-user.js";
import { SleepWatch } from "../helpers/threads.js";
import { describeVhostUser, eventually, type Served } from "../helpers/vhost-user.js";
import { takeCount } from "../helpers/vhost-user-ring.js";
import { QUIET_MS, Ring, RingSuite } from "../helpers/vhost-user-states.js";

describeVhostUser("vhost-user: descriptors of a running ring", () => {
  const suite = new RingSuite();
  let served: Served;
  let front: FrontEnd;
  let ring: Ring;
  beforeEach(() => {
    ({ served, front, ring } = suite);
  });

  beforeEach(async () => {
    await front.attach(ring.queue);
    ring.kick();
    ring.offer();
    await ring.done(1);
  });

  test("SET_VRING_KICK with another leaves it running: that one is listened to", async () => {
    for (let count = 2; count < 20; count++) {
      const kickFd = front.eventfd();
      await front.must("SET_VRING_KICK", u64s(0), [kickFd]);
      ring.offer();
      signalEventfd(kickFd);
      await ring.done(count);
      ring.reap(1);
    }
  });

  test("SET_VRING_KICK without a new kick: what was offered before is done", async () => {
    ring.offer();
    await front.must("SET_VRING_KICK", u64s(0), [front.eventfd()]);
    await ring.done(2);
  });

  test("SET_VRING_KICK without one: the ring is polled", async () => {
    await front.must("SET_VRING_KICK", u64s(NOFD));
    for (let count = 2; count < 10; count++) {
      ring.offer();
      await ring.done(count);
      ring.reap(1);
    }
  });

  test("SET_VRING_CALL with another: calls go there, and no more to the old one", async () => {
    const { callFd } = ring.queue;
    const read = (fd: number) => takeCount(fd);
    await eventually(() => read(callFd) > 0n, "a call");
    const fresh = front.eventfd();
    await front.must("SET_VRING_CALL", u64s(0), [fresh]);
    drainEventfd(callFd);
    drainEventfd(fresh);
    ring.reap(1);
    ring.queue.ring.enableCall();
    ring.offer();
    ring.kick();
    await ring.done(2);
    await eventually(() => read(fresh) > 0n, "a call");
    expect(read(callFd)).toBe(0n);
  });

  test("SET_VRING_CALL without one: no calls", async () => {
    await front.must("SET_VRING_CALL", u64s(NOFD));
    drainEventfd(ring.queue.callFd);
    ring.queue.ring.enableCall();
    ring.offer();
    ring.kick();
    await ring.done(2);
    await sleep(QUIET_MS);
    expect(takeCount(ring.queue.callFd)).toBe(0n);
  });

  test("SET_VRING_NUM and SET_VRING_BASE are refused, and it runs on", async () => {
    expect(await front.tell("SET_VRING_NUM", u32s(0, 32))).toBe(false);
    expect((await served.next("refused")).error.code).toBe("EBUSY");
    expect(await front.tell("SET_VRING_BASE", u32s(0, 0))).toBe(false);
    expect((await served.next("refused")).error.code).toBe("EBUSY");
    ring.offer();
    ring.kick();
    await ring.done(2);
  });

  test("one kick descriptor for two rings starts and wakes both", async () => {
    const other = new Ring(front, 1);
    const { kickFd } = ring.queue;
    await front.attach(other.queue);
    await front.must("SET_VRING_KICK", u64s(1), [kickFd]);
    for (let count = 1; count < 20; count++) {
      other.offer();
      ring.offer();
      ring.kick();
      await other.done(count);
      await ring.done(count + 1);
      other.reap(1);
      ring.reap(1);
    }
    other.close();
  });

  test("one descriptor for kicks and calls: the worker wakes itself, and sleeps", async () => {
    const { kickFd } = ring.queue;
    await front.must("SET_VRING_CALL", u64s(0), [kickFd]);
    await front.must("SET_VRING_ERR", u64s(0), [kickFd]);
    for (let count = 2; count < 20; count++) {
      ring.queue.ring.enableCall();
      ring.offer();
      ring.kick();
      await ring.done(count);
      ring.reap(1);
    }
    const worker = new SleepWatch((await served.next("connected")).worker);
    const before = worker.ranMs;
    await sleep(500);
    expect(worker.ranMs - before).toBeLessThan(50);
  });
});
