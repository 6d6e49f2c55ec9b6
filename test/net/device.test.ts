// A network device with its driver, in every mode: virtio 1.3, 5.1.

import { createHash, randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { ProbeOptions } from "#dist/driver/probe.js";
import { Kernel, type NetOptions, net } from "#dist/index.js";
import type { OpenOptions } from "#dist/loopback.js";
import { VIRTIO_NET_F_MRG_RXBUF } from "#dist/spec/virtio-net.js";
import { rejected } from "../helpers/devices.js";
import { keepPumping } from "../helpers/pump.js";
import { MODES, THREADS } from "../helpers/raw-guest.js";

async function open(
  mode: OpenOptions,
  probeOptions: ProbeOptions = {},
  options: Partial<NetOptions> = {},
) {
  const process = new Kernel().spawn({ memoryBytes: 8 << 20 });
  const frames: Uint8Array[] = [];
  const nic = net({ onPacket: (frame) => frames.push(frame.slice()), ...options });
  const device = await process.open(nic, mode);
  const guest = await device.driver(probeOptions);
  const stopPump = keepPumping(device, mode);
  return {
    process,
    nic,
    frames,
    device,
    guest,
    [Symbol.asyncDispose]: async () => {
      await stopPump();
      await process.exit();
    },
  };
}

const digest = (frames: readonly Uint8Array[]) => {
  const hash = createHash("sha256");
  for (const frame of frames) hash.update(`${frame.length}:`).update(frame);
  return hash.digest("hex");
};

/** Frames of many lengths, the shortest and the longest among them. */
function someFrames(count: number, most = 1514): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => {
    const length = i === 0 ? 14 : i === 1 ? most : 14 + ((i * 7919) % (most - 13));
    return randomBytes(length);
  });
}

const RINGS: ProbeOptions[] = [
  {},
  { packed: true },
  { inOrder: true },
  { withoutFeatures: [VIRTIO_NET_F_MRG_RXBUF] },
];

describe.each(MODES)("$run, $ring ring", (mode) => {
  test.each(RINGS)("frames both ways, %o", async (probeOptions) => {
    await using both = await open(mode, probeOptions);
    const sent = someFrames(600);
    for (const frame of sent) {
      while (both.guest.room === 0) await sleep(0);
      both.guest.send(frame).catch(() => {});
    }
    await expect.poll(() => both.frames.length).toBe(sent.length);
    expect(digest(both.frames)).toBe(digest(sent));
    const got: Uint8Array[] = [];
    both.guest.onPacket = (frame) => got.push(frame.slice());
    for (const frame of sent) while (!both.nic.send(frame)) await sleep(0);
    await expect.poll(() => got.length).toBe(sent.length);
    expect(digest(got)).toBe(digest(sent));
    expect(both.device.errorCounts()).toEqual({});
    expect(both.guest.counts.bad).toBe(0);
  });

  test("a burst goes whole, in its order, or not at all", async () => {
    await using both = await open(mode);
    const { guest, frames } = both;
    const sent = someFrames(guest.room);
    await guest.sendBurst([]);
    await rejected("ENOBUFS", guest.sendBurst([...sent, randomBytes(60)]));
    await rejected("EINVAL", guest.sendBurst([randomBytes(60), randomBytes(13)]));
    await rejected("EINVAL", guest.sendBurst([randomBytes(60), randomBytes(1600)]));
    await rejected("EINVAL", guest.sendBurst([randomBytes(60)], 1));
    expect([guest.counts.sent, guest.room]).toEqual([0, sent.length]);
    const taken = guest.sendBurst(sent);
    expect(guest.room).toBe(0);
    await rejected("ENOBUFS", guest.send(randomBytes(60)));
    await taken;
    expect([guest.counts.sent, guest.room]).toEqual([sent.length, sent.length]);
    await expect.poll(() => frames.length).toBe(sent.length); // the device has them, we get them
    expect(digest(frames)).toBe(digest(sent));
  });

  test("a driver's function that throws stops nothing", async () => {
    const thrown: unknown[] = [];
    await using both = await open(mode);
    const listeners = process.listeners("unhandledRejection");
    process.removeAllListeners("unhandledRejection");
    process.on("unhandledRejection", (error) => thrown.push(error));
    try {
      const got: number[] = [];
      both.guest.onPacket = (frame) => {
        got.push(frame[0] as number);
        if (got.length % 2 === 1) throw new Error(`mine ${got.length}`);
      };
      const count = 1000; // each buffer several times
      for (let i = 0; i < count; i++) while (!both.nic.send(Buffer.alloc(60, i))) await sleep(0);
      await expect.poll(() => got.length).toBe(count);
      expect(got).toEqual(Array.from({ length: count }, (_, i) => i & 0xff));
      await expect.poll(() => thrown.length).toBe(count / 2);
      expect(thrown[1]).toEqual(new Error("mine 3"));
    } finally {
      process.removeAllListeners("unhandledRejection");
      for (const listener of listeners) process.on("unhandledRejection", listener);
    }
  });

  test.each([{}, { packed: true }, { inOrder: true }])(
    "frames in several buffers, %o",
    async (probeOptions) => {
      await using both = await open(mode, { queueSize: 32, ...probeOptions }, { mtu: 9000 });
      const sent = someFrames(100, 9014);
      const got: Uint8Array[] = [];
      both.guest.onPacket = (frame) => got.push(frame.slice());
      for (const frame of sent) while (!both.nic.send(frame)) await sleep(0);
      await expect.poll(() => got.length).toBe(sent.length);
      expect(digest(got)).toBe(digest(sent));
      expect(both.device.errorCounts()).toEqual({});
    },
  );

  test("5.1.4: MAC and MTU are what was asked for", async () => {
    await using both = await open(mode, {}, { mac: "52:54:00:aa:bb:cc", mtu: 1400 });
    expect(both.guest.mac).toEqual(Uint8Array.of(0x52, 0x54, 0, 0xaa, 0xbb, 0xcc));
    expect(both.guest.mtu).toBe(1400);
    await both.guest.send(randomBytes(1400 + 14 + 4));
    await rejected("EINVAL", both.guest.send(randomBytes(1526 + 1400)));
  });

  test("frames that nobody takes wait, as many as are bounded, and then are dropped", async () => {
    await using both = await open(mode);
    for (let i = 0; i < 300; i++) while (!both.nic.send(Buffer.alloc(60, i))) await sleep(0);
    await expect.poll(() => both.guest.counts.received).toBe(300);
    expect(both.guest.counts.dropped).toBe(44);
    for (let i = 0; i < 256; i++) expect((await both.guest.receive())[0]).toBe(i);
    const aborted = both.guest.receive({ signal: AbortSignal.timeout(10) });
    await expect(aborted).rejects.toThrow(/timeout|aborted/);
  });

  test("another driver gets nothing that was for the one before", async () => {
    await using both = await open(mode, { queueSize: 4 });
    await both.guest.close();
    for (let i = 0; i < 3; i++) both.nic.send(Buffer.alloc(60, 1));
    const again = await both.device.driver();
    both.nic.send(Buffer.alloc(60, 2));
    const frame = await again.receive();
    expect([1, 2]).toContain(frame[0]);
    await again.close();
    const third = await both.device.driver();
    both.nic.send(Buffer.alloc(60, 3));
    expect((await third.receive())[0]).toBe(3);
  });
});

describe.each(THREADS)("a worker with a $ring ring", (mode) => {
  test("the iterator ends with the device; then nothing can be sent", async () => {
    await using both = await open(mode);
    both.nic.send(Buffer.alloc(60, 9));
    const got: number[] = [];
    for await (const frame of both.guest) {
      got.push(frame[0] as number);
      void both.device.close();
    }
    expect(got).toEqual([9]);
    await both.device.close();
    await rejected("ENODEV", both.guest.send(Buffer.alloc(60)));
    expect(() => both.nic.send(Buffer.alloc(60))).toThrow(/ENODEV/);
  });

  test("what a user's function throws stops nothing", async () => {
    let calls = 0;
    const listeners = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    const thrown: unknown[] = [];
    process.on("uncaughtException", (error) => thrown.push(error));
    try {
      const onPacket = () => {
        if (++calls === 1) throw new Error("mine");
      };
      await using both = await open(mode, {}, { onPacket });
      await both.guest.send(Buffer.alloc(60));
      await both.guest.send(Buffer.alloc(60));
      await expect.poll(() => calls).toBe(2);
      expect(thrown).toEqual([new Error("mine")]);
    } finally {
      process.removeAllListeners("uncaughtException");
      for (const listener of listeners) process.on("uncaughtException", listener);
    }
  });
});

describe("options", () => {
  test.each([
    [{ mac: "no" }, /mac/],
    [{ mac: "01:00:5e:00:00:01" }, /one station/],
    [{ mac: "00:00:00:00:00:00" }, /one station/],
    [{ mtu: 67 }, /mtu/],
    [{ mtu: 65536 }, /mtu/],
    [{ queueSize: 3 }, /EINVAL/],
    [{ onPacket: 1 as never }, /onPacket/],
    [{ tap: 1 } as never, /tap/],
  ])("%o makes none", (options, message) => {
    expect(() => net(options)).toThrow(message);
  });

  test("a station is one guest's at a time", async () => {
    await using process = new Kernel().spawn();
    await process.open(net({ mac: "52:54:00:00:00:01" }));
    await rejected("EBUSY", process.open(net({ mac: "52:54:00:00:00:01" })));
  });
});
