import { setTimeout as sleep } from "node:timers/promises";
import * as fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type FrontEnd, type FrontQueue, u32s, u64s } from "#dist/bench/front-end.js";
import { drainEventfd, signalEventfd } from "#dist/linux/eventfd.js";
import { libc } from "#dist/linux/libc.js";
import { deviceAreaBytes } from "#dist/memory/vring.js";
import { VHOST_USER_VRING_NOFD_MASK as NOFD } from "#dist/spec/vhost-user.js";
import { VIRTIO_BLK_T_FLUSH } from "#dist/spec/virtio-blk.js";
import { bit } from "../helpers/raw-guest.js";
import { describeVhostUser, eventually, Served } from "../helpers/vhost-user.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";

const BIT_30 = bit(30);
/** Long enough for a worker that does what it must not. */
const QUIET_MS = 30;

/** A queue with what is in its used ring. */
class Ring {
  readonly front: FrontEnd;
  readonly queue: FrontQueue;
  readonly drive: FrontDisk;

  constructor(front: FrontEnd, index = 0, num = 64) {
    this.front = front;
    this.queue = front.makeQueue(index, num);
    this.drive = new FrontDisk(front, this.queue);
  }

  get usedIdx(): number {
    return this.front.shared.view.getUint16(this.queue.areas.device + 2, true);
  }

  set usedIdx(value: number) {
    this.front.shared.view.setUint16(this.queue.areas.device + 2, value, true);
  }

  get usedArea(): number[] {
    const { device } = this.queue.areas;
    const end = device + deviceAreaBytes(this.queue.num);
    return [...this.front.shared.bytes.slice(device, end)];
  }

  /** All but index 0 filled with what no device writes, to see whether one writes at all. */
  mark(): number[] {
    const { device } = this.queue.areas;
    this.front.shared.bytes.fill(0x5a, device, device + deviceAreaBytes(this.queue.num));
    this.usedIdx = 0;
    return this.usedArea;
  }

  /** Makes a request available; `used` follows when the device does it. */
  offer(count = 1): void {
    const requests = Array.from({ length: count }, () => ({ type: VIRTIO_BLK_T_FLUSH }));
    this.drive.offer(requests, false);
  }

  kick(): void {
    signalEventfd(this.queue.kickFd);
  }

  enable(value: number): Promise<void> {
    return this.front.must("SET_VRING_ENABLE", u32s(this.queue.index, value));
  }

  /** Stops it: where it goes on. */
  async stop(): Promise<number> {
    const reply = await this.front.ask("GET_VRING_BASE", u32s(this.queue.index, 0));
    expect(reply.getUint32(0, true)).toBe(this.queue.index);
    return reply.getUint32(4, true);
  }

  async done(count: number): Promise<void> {
    await eventually(() => this.usedIdx === count, `${count} used`);
  }

  /** Takes them back from the used ring. */
  reap(count: number): void {
    expect(this.queue.ring.getBufs(count)).toBe(count);
  }

  async staysAt(count: number): Promise<void> {
    await sleep(QUIET_MS);
    expect(this.usedIdx).toBe(count);
  }

  close(): void {
    this.drive.close();
  }
}

describeVhostUser("vhost-user ring states", () => {
  let served: Served;
  let front: FrontEnd;
  let ring: Ring;
  beforeAll(async () => {
    served = await Served.start();
  });
  beforeEach(async () => {
    ring?.close();
    front?.close();
    await served.idle();
    front = await served.ready();
    ring = new Ring(front);
  });
  afterAll(async () => {
    ring?.close();
    front?.close();
    await served?.[Symbol.asyncDispose]();
  });

  describe("a ring is not touched", () => {
    test("before its first kick", async () => {
      const before = ring.mark();
      await front.negotiate(0n);
      await ring.front.attach(ring.queue);
      ring.offer();
      await sleep(QUIET_MS);
      expect(ring.usedArea).toEqual(before);
      ring.kick();
      await ring.done(1);
    });

    test("before it is enabled, and goes on at once when it is, if it was kicked before", async () => {
      await front.attach(ring.queue);
      await ring.enable(0);
      const before = ring.mark();
      ring.offer();
      ring.kick();
      await sleep(QUIET_MS);
      expect(ring.usedArea).toEqual(before);
      await ring.enable(1);
      await ring.done(1);
    });

    test("while it is disabled; what was offered meanwhile is done after", async () => {
      await front.attach(ring.queue);
      ring.kick();
      ring.offer();
      await ring.done(1);
      await ring.enable(0);
      const before = ring.usedArea;
      ring.offer(5);
      ring.kick();
      await sleep(QUIET_MS);
      expect(ring.usedArea).toEqual(before);
      await ring.enable(1);
      await ring.done(6);
    });

    test("after RESET_OWNER, until it is enabled", async () => {
      await front.attach(ring.queue);
      ring.kick();
      await front.must("RESET_OWNER");
      ring.offer();
      ring.kick();
      await ring.staysAt(0);
      await ring.enable(1);
      await ring.done(1);
    });

    test("by a kick of another", async () => {
      const other = new Ring(front, 1);
      await front.attach(ring.queue);
      await front.attach(other.queue);
      const before = ring.mark();
      ring.offer();
      other.offer();
      other.kick();
      await other.done(1);
      expect(ring.usedArea).toEqual(before);
      other.close();
    });
  });

  // what came before the memory, and what after it, makes no difference
  test("its messages may come in any order", { timeout: 60_000 }, async () => {
    const { index, kickFd, callFd } = ring.queue;
    const messages: Record<string, () => Promise<void> | void> = {
      memory: () => front.setMemory(),
      address: () => front.must("SET_VRING_ADDR", front.vringAddress(ring.queue)),
      kickFd: () => front.must("SET_VRING_KICK", u64s(index), [kickFd]),
      callFd: () => front.must("SET_VRING_CALL", u64s(index), [callFd]),
      enable: () => ring.enable(1),
      features: () => front.must("SET_FEATURES", u64s(front.features)),
      status: () => front.must("SET_STATUS", u64s(15)),
      kick: () => ring.kick(),
    };
    const names = Object.keys(messages);
    const needed = ["memory", "address", "kickFd", "enable", "kick"];
    const orders = fc.shuffledSubarray(names, { minLength: names.length });
    const property = fc.asyncProperty(orders, async (order) => {
      ring.queue.ring.reset();
      await front.must("RESET_DEVICE");
      await front.must("SET_MEM_TABLE", u32s(0, 0));
      drainEventfd(kickFd);
      await front.must("SET_VRING_NUM", u32s(index, 64));
      await front.must("SET_VRING_BASE", u32s(index, 0));
      ring.offer(3);
      for (const [i, name] of order.entries()) {
        const isReady = needed.every((one) => order.slice(0, i).includes(one));
        if (!isReady) expect(ring.usedIdx, name).toBe(0);
        await messages[name]?.();
      }
      await ring.done(3);
      expect(await ring.stop()).toBe(3);
    });
    await fc.assert(property, { numRuns: 60 });
  });

  // seed 1439790549: the worker took the kick out of its eventfd, then was told to stop
  test("a first kick is not lost when it comes together with a message", async () => {
    for (let round = 0; round < 200; round++) {
      ring.queue.ring.reset();
      await front.must("RESET_DEVICE");
      drainEventfd(ring.queue.kickFd);
      await front.attach(ring.queue);
      ring.offer();
      const answer = front.must("SET_VRING_ENABLE", u32s(1, round & 1));
      for (let spins = round * 50; spins > 0; spins--) ring.usedIdx;
      ring.kick();
      await answer;
      await ring.done(1);
    }
  });

  // found by reading: the state of the run before was taken for that of the next
  test("memory that comes last does not start a ring that was not kicked again", async () => {
    await front.attach(ring.queue);
    ring.kick();
    ring.offer();
    await ring.done(1);
    const base = await ring.stop();
    await front.must("SET_MEM_TABLE", u32s(0, 0));
    drainEventfd(ring.queue.kickFd);
    await front.must("SET_VRING_BASE", u32s(0, base));
    await front.must("SET_VRING_KICK", u64s(0), [ring.queue.kickFd]);
    await ring.enable(1);
    ring.offer();
    await front.setMemory();
    await front.setMemory();
    await ring.staysAt(1);
    ring.kick();
    await ring.done(2);
  });

  describe("SET_FEATURES", () => {
    const setFeatures = (more: bigint) =>
      front.must("SET_FEATURES", u64s((front.features & ~BIT_30) | more));

    test("without the protocol features' bit enables all rings at once", async () => {
      const other = new Ring(front, 3);
      for (const one of [ring, other]) {
        await front.attach(one.queue);
        await one.enable(0);
        one.offer();
        one.kick();
      }
      await ring.staysAt(0);
      await setFeatures(0n);
      await ring.done(1);
      await other.done(1);
      other.close();
    });

    test("with it disables no ring, and enables none", async () => {
      await front.attach(ring.queue);
      ring.kick();
      for (let count = 1; count <= 10; count++) {
        await setFeatures(BIT_30);
        ring.offer();
        ring.kick();
        await ring.done(count);
        ring.reap(1);
      }
      await ring.enable(0);
      await setFeatures(BIT_30);
      ring.offer();
      ring.kick();
      await ring.staysAt(10);
    });
  });

  describe("descriptors of a running ring", () => {
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
      const read = (fd: number) => eventfdCount(fd);
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
      expect(eventfdCount(ring.queue.callFd)).toBe(0n);
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
  });

  test("a ring without kicks from the start is started by that", async () => {
    await front.must("SET_VRING_NUM", u32s(0, 64));
    await front.must("SET_VRING_ADDR", front.vringAddress(ring.queue));
    await ring.enable(1);
    ring.offer();
    await ring.staysAt(0);
    await front.must("SET_VRING_KICK", u64s(NOFD));
    await ring.done(1);
    expect(await ring.stop()).toBe(1);
    ring.offer();
    await ring.staysAt(1);
  });

  describe("GET_VRING_BASE", () => {
    test("stops the ring; a kick in the old descriptor does not start it again", async () => {
      await front.attach(ring.queue);
      ring.kick();
      ring.offer(3);
      await ring.done(3);
      expect(await ring.stop()).toBe(3);
      const before = ring.mark();
      ring.offer();
      ring.kick();
      await ring.enable(0);
      await ring.enable(1);
      await front.setMemory();
      await sleep(QUIET_MS);
      expect(ring.usedArea).toEqual(before);
      expect(await ring.stop()).toBe(3);
      ring.usedIdx = 3;
      await front.attach(ring.queue, 3); // its kick is still in there
      await ring.done(4);
      expect(await ring.stop()).toBe(4);
    });

    test("in the midst of work: all that was popped is used, and all is done in the end", async () => {
      const total = 30;
      for (let round = 0; round < 60; round++) {
        ring.queue.ring.reset();
        drainEventfd(ring.queue.kickFd);
        await front.attach(ring.queue);
        for (let i = 0; i < 6; i++) ring.offer(5);
        ring.kick();
        for (let spins = round * 500; spins > 0; spins--) ring.usedIdx;
        const base = await ring.stop();
        expect(ring.usedIdx).toBe(base);
        await front.attach(ring.queue, base);
        ring.kick();
        await ring.done(total);
        expect(await ring.stop()).toBe(total);
      }
    });

    test("an index near its wrap goes on at 0", async () => {
      const { areas } = ring.queue;
      const { view } = front.shared;
      view.setUint16(areas.driver + 2, 65534, true);
      ring.usedIdx = 65534;
      await front.attach(ring.queue, 65534);
      for (const head of [0, 1, 2, 3, 4]) {
        const idx = view.getUint16(areas.driver + 2, true);
        view.setBigUint64(areas.desc + head * 16, 0n, true); // nobody's: comes back with length 0
        view.setUint32(areas.desc + head * 16 + 8, 1, true);
        view.setUint16(areas.driver + 4 + (idx % 64) * 2, head, true);
        view.setUint16(areas.driver + 2, idx + 1, true);
      }
      ring.kick();
      await ring.done(3);
      expect(await ring.stop()).toBe(3);
    });

    test("of a ring that was never started gives what SET_VRING_BASE set", async () => {
      for (const base of [0, 1, 32767, 65535]) {
        await front.must("SET_VRING_BASE", u32s(2, base));
        const reply = await front.ask("GET_VRING_BASE", u32s(2, 0));
        expect([reply.getUint32(0, true), reply.getUint32(4, true)]).toEqual([2, base]);
      }
    });
  });

  describe("the hand-off from firmware to kernel", () => {
    const STOPS: Record<string, (ring: Ring) => Promise<unknown>> = {
      GET_VRING_BASE: (old) => old.stop(),
      "GET_VRING_BASE and RESET_DEVICE": async (old) => {
        await old.stop();
        await front.must("RESET_DEVICE");
      },
      RESET_DEVICE: () => front.must("RESET_DEVICE"),
      "SET_STATUS 0": () => front.must("SET_STATUS", u64s(0)),
    };

    test.each(Object.keys(STOPS))("by %s: another ring, features and size", async (name) => {
      const bytes = new Uint8Array(4096).map((_, i) => i * 7);
      const kernelFeatures = front.features;
      for (let boot = 0; boot < 3; boot++) {
        await front.negotiate(bit(32)); // firmware: VERSION_1 alone
        const firmware = new Ring(front, 0, 8);
        await front.attach(firmware.queue);
        firmware.kick();
        await firmware.drive.write(boot * 4096, bytes);
        firmware.offer(2); // in flight or not at the stop
        await STOPS[name]?.(firmware);
        const left = firmware.usedArea;
        await front.must("SET_FEATURES", u64s(kernelFeatures));
        front.features = kernelFeatures;
        const kernel = new Ring(front, 0, 256);
        await front.attach(kernel.queue);
        kernel.kick();
        expect(await kernel.drive.read(boot * 4096, 4096)).toEqual(bytes);
        expect(firmware.usedArea).toEqual(left);
        await STOPS[name]?.(kernel);
        for (const one of [firmware, kernel]) one.close();
      }
    });
  });
});

/** What is in an eventfd; it is taken out. */
function eventfdCount(fd: number): bigint {
  const count = new BigUint64Array(1);
  return libc().read(fd, count, 8) === 8 ? (count[0] as bigint) : 0n;
}
