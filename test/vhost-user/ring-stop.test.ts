import { setTimeout as sleep } from "node:timers/promises";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { type FrontEnd, u32s, u64s } from "#dist/bench/front-end.js";
import { drainEventfd } from "#dist/linux/eventfd.js";
import { VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_RESET } from "#dist/spec/virtio-config.js";
import { bit } from "../helpers/raw-guest.js";
import { describeVhostUser } from "../helpers/vhost-user.js";
import { QUIET_MS, Ring, RingSuite } from "../helpers/vhost-user-states.js";
import { loadU16, storeU16 } from "../helpers/whole-u16.js";

describeVhostUser("vhost-user: stopping a ring", () => {
  const suite = new RingSuite();
  let front: FrontEnd;
  let ring: Ring;
  beforeEach(() => {
    ({ front, ring } = suite);
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

    test("in the midst of work: all that was popped is used, all is done at last", async () => {
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

    test("is how one ring is reset: it comes back in another size, the other goes on", async () => {
      expect(front.has(VIRTIO_F_RING_RESET)).toBe(true);
      expect(front.has(VIRTIO_F_NOTIFICATION_DATA)).toBe(false); // an eventfd carries none
      const makeRing = (index: number, num: number) => {
        const made = new Ring(front, index, num);
        onTestFinished(() => made.close());
        return made;
      };
      const other = makeRing(1, 64);
      await front.attach(other.queue);
      other.kick();
      await front.attach(ring.queue);
      let others = 0;
      let mine = ring;
      for (const num of [8, 256, 16]) {
        mine.kick();
        mine.offer(3);
        other.offer(3);
        others += 3;
        await mine.done(3);
        expect(await mine.stop()).toBe(3);
        mine = makeRing(0, num);
        await front.attach(mine.queue);
        await other.done(others);
      }
      expect(await other.stop()).toBe(others);
    });

    test("an index near its wrap goes on at 0", async () => {
      const { areas } = ring.queue;
      const { view } = front.shared;
      view.setUint16(areas.driver + 2, 65534, true);
      ring.usedIdx = 65534;
      await front.attach(ring.queue, 65534);
      for (const head of [0, 1, 2, 3, 4]) {
        const idx = loadU16(view, areas.driver + 2);
        view.setBigUint64(areas.desc + head * 16, 0n, true); // nobody's: comes back with length 0
        view.setUint32(areas.desc + head * 16 + 8, 1, true);
        view.setUint16(areas.driver + 4 + (idx % 64) * 2, head, true);
        storeU16(view, areas.driver + 2, idx + 1);
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
