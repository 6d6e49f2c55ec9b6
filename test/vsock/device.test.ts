// A socket device with its driver, in every mode: virtio 1.3, 5.10.

import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Duplex } from "node:stream";
import { describe, expect, test } from "vitest";
import type { ProbeOptions } from "#dist/driver/probe.js";
import { Kernel, type VsockOptions, vsock } from "#dist/index.js";
import type { OpenOptions } from "#dist/loopback.js";
import { rejected } from "../helpers/devices.js";
import { keepPumping } from "../helpers/pump.js";
import { MODES, THREADS } from "../helpers/raw-guest.js";

let lastCid = 100;
/** Others may have the cores for as long as a connection may take to come about. */
const PATIENT = { timeoutMs: 20_000 };

async function open(
  mode: OpenOptions,
  probeOptions: ProbeOptions = {},
  options: Partial<VsockOptions> = {},
) {
  const process = new Kernel().spawn({ memoryBytes: 8 << 20 });
  const host = vsock({ cid: lastCid++, ...options });
  const device = await process.open(host, mode);
  const guest = await device.driver(probeOptions);
  const stopPump = keepPumping(device, mode);
  return {
    process,
    host,
    device,
    guest,
    [Symbol.asyncDispose]: async () => {
      await stopPump();
      await process.exit();
    },
  };
}

const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** All that comes; the other way stays open, which it would not after `for await`. */
async function all(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk) => chunks.push(chunk));
  await once(stream, "end");
  return Buffer.concat(chunks);
}

/** A listener that keeps its streams, whatever becomes of them. */
const keepIn = (streams: Duplex[]) => (stream: Duplex) => {
  streams.push(stream.on("error", () => {}));
};

/** The error that ends a stream. */
async function errorOf(stream: Duplex): Promise<unknown> {
  stream.on("error", () => {}).resume();
  return stream.errored ?? (await once(stream, "error"))[0];
}

describe.each(MODES)("$run, $ring ring", (mode) => {
  test.each([{}, { packed: true }])("MiBs there and back, %o", async (probeOptions) => {
    await using both = await open(mode, probeOptions);
    both.host.listen(7, (stream) => stream.pipe(stream));
    both.guest.listen(7, (stream) => stream.pipe(stream));
    const sent = randomBytes(2_500_000);
    const streams = [await both.guest.connect(2, 7, PATIENT), await both.host.connect(7, PATIENT)];
    for (const stream of streams) stream.end(sent);
    for (const back of await Promise.all(streams.map(all))) {
      expect(digest(back)).toBe(digest(sent));
    }
    expect(both.device.errorCounts()).toEqual({});
  });

  test("one side ends, the other goes on", async () => {
    await using both = await open(mode);
    both.host.listen(1, async (stream) => {
      const question = await all(stream);
      stream.end(`${question.length} bytes`);
    });
    const stream = await both.guest.connect(2, 1, PATIENT);
    stream.write("what ");
    stream.end("is it");
    expect(String(await all(stream))).toBe("10 bytes");
  });

  test("nobody listens: refused, from either side", async () => {
    await using both = await open(mode);
    await rejected("ECONNREFUSED", both.guest.connect(2, 9, PATIENT));
    await rejected("ECONNREFUSED", both.host.connect(9, PATIENT));
    const listener = both.host.listen(9, (stream) => stream.end());
    await all((await both.guest.connect(2, 9, PATIENT)).end());
    listener.close();
    await rejected("ECONNREFUSED", both.guest.connect(2, 9, PATIENT));
  });

  test("many at a time, each gets its own", async () => {
    await using both = await open(mode, { queueSize: 16 });
    both.host.listen(5, (stream) => stream.pipe(stream));
    const answers = Array.from({ length: 100 }, async (_, i) => {
      const stream = await both.guest.connect(2, 5, PATIENT);
      const text = `stream ${i} `.repeat(1 + i);
      stream.end(text);
      return String(await all(stream)) === text;
    });
    expect(new Set(await Promise.all(answers))).toEqual(new Set([true]));
  });

  test("what is not read holds up no other stream, and is bounded", async () => {
    const bufferBytes = 100_000;
    await using both = await open(mode, {}, { bufferBytes });
    const slow = new Promise<Duplex>((resolve) => both.host.listen(1, resolve));
    both.host.listen(2, (stream) => stream.pipe(stream));
    const stuck = await both.guest.connect(2, 1, PATIENT);
    const sent = randomBytes(1_000_000);
    stuck.end(sent);
    const brisk = await both.guest.connect(2, 2, PATIENT);
    brisk.end(sent);
    expect(digest(await all(brisk))).toBe(digest(sent));
    const reader = await slow;
    expect(reader.readableLength).toBe(0);
    expect(stuck.writableLength).toBeGreaterThanOrEqual(0);
    expect(stuck.writableFinished).toBe(false);
    expect(digest(await all(reader))).toBe(digest(sent));
    reader.end();
    await all(stuck);
  });

  test("destroy with an error resets the other end", async () => {
    await using both = await open(mode);
    both.host.listen(1, (stream) => {
      stream.on("error", () => {});
      stream.destroy(new Error("enough"));
    });
    // Where both come at once, there is no stream any more.
    const error = both.guest.connect(2, 1, PATIENT).then(errorOf, (reason: unknown) => reason);
    expect(await error).toMatchObject({ code: "ECONNRESET" });
  });

  test("limits: too many connections are refused", async () => {
    await using both = await open(mode, {}, { connectionsMax: 3 });
    const kept: Duplex[] = [];
    both.host.listen(1, keepIn(kept));
    for (let i = 0; i < 3; i++) keepIn(kept)(await both.guest.connect(2, 1, PATIENT));
    await rejected("ECONNREFUSED", both.guest.connect(2, 1, PATIENT));
    await rejected("ENOBUFS", both.host.connect(1, PATIENT));
  });

  test("a driver's reset ends all streams and says why; listeners stay", async () => {
    await using both = await open(mode);
    const streams: Duplex[] = [];
    both.host.listen(1, keepIn(streams));
    both.guest.listen(1, keepIn([]));
    const guests = [await both.guest.connect(2, 1, PATIENT)];
    const hosts = [await both.host.connect(1, PATIENT)];
    for (const stream of [...guests, ...hosts]) stream.on("error", () => {}).write("on its way");
    await expect.poll(() => streams.length).toBe(1);
    const [ofGuest, ofHost] = [guests, [...hosts, ...streams]].map((all) => all.map(errorOf));
    const asked = rejected("ECONNRESET", both.host.connect(99, PATIENT));
    await both.guest.close();
    const gone = { message: "ENODEV: the driver is closed" };
    expect(await Promise.all(ofGuest ?? [])).toMatchObject([gone]);
    const reset = { message: "ECONNRESET: the guest has reset the device" };
    expect(await Promise.all(ofHost ?? [])).toMatchObject([reset, reset]);
    await asked;
    await rejected("ENODEV", both.guest.connect(2, 1, PATIENT));
    const again = await both.device.driver();
    again.listen(1, keepIn([]));
    (await again.connect(2, 1, PATIENT)).destroy();
    (await both.host.connect(1, PATIENT)).destroy();
    await expect.poll(() => streams.length).toBe(2);
  });

  test("5.10.6.7: a reset of the transport ends all streams, and new ones come", async () => {
    await using both = await open(mode);
    const streams: Duplex[] = [];
    both.host.listen(1, keepIn(streams));
    const stream = await both.guest.connect(2, 1, PATIENT);
    await expect.poll(() => streams.length).toBe(1);
    const ended = Promise.all([stream, streams[0] as Duplex].map(errorOf));
    both.host.resetTransport();
    const reset = { code: "ECONNRESET" };
    expect(await ended).toMatchObject([reset, reset]);
    (await both.guest.connect(2, 1, PATIENT)).destroy();
    await expect.poll(() => streams.length).toBe(2);
  });

  test("close of the device ends streams on both sides with ENODEV", async () => {
    await using both = await open(mode);
    const streams: Duplex[] = [];
    both.host.listen(1, keepIn(streams));
    const stream = await both.guest.connect(2, 1, PATIENT);
    await expect.poll(() => streams.length).toBe(1);
    const ended = Promise.all([stream, streams[0] as Duplex].map(errorOf));
    await both.device.close();
    const gone = { code: "ENODEV" };
    expect(await ended).toMatchObject([gone, gone]);
    await rejected("ENODEV", both.host.connect(1, PATIENT));
  });
});

describe.each(THREADS)("a worker with a $ring ring", (mode) => {
  test("killed: streams on both sides end, the CID is free", async () => {
    await using both = await open(mode);
    const streams: Duplex[] = [];
    both.host.listen(1, keepIn(streams));
    const stream = await both.guest.connect(2, 1, PATIENT);
    await expect.poll(() => streams.length).toBe(1);
    const ended = Promise.all([stream, streams[0] as Duplex].map(errorOf));
    await both.process.exit();
    const gone = { code: "ENODEV" };
    expect(await ended).toMatchObject([gone, gone]);
    const process = new Kernel().spawn({ memoryBytes: 8 << 20 });
    const device = await process.open(both.host, mode);
    const guest = await device.driver();
    (await guest.connect(2, 1, PATIENT)).destroy();
    await expect.poll(() => streams.length).toBe(2);
    await process.exit();
  });
});

describe("what is refused at the door", () => {
  test.each([
    { cid: 2 },
    { cid: 0xffff_ffff },
    { cid: 3.5 },
    { cid: 3, bufferBytes: 0 },
    { cid: 3, queueSize: 3 },
    { cid: 3, connections: 3 },
  ] as VsockOptions[])("%o", (options) => {
    expect(() => vsock(options)).toThrow(/^EINVAL: /);
  });

  test("a CID is one device's", async () => {
    const process = new Kernel().spawn({ memoryBytes: 8 << 20 });
    await process.open(vsock({ cid: 77 }));
    await rejected("EBUSY", process.open(vsock({ cid: 77 })));
    await process.exit();
  });

  test("a port twice, ports that are none, other CIDs, no answer, given up", async () => {
    await using both = await open({});
    both.host.listen(1, () => {});
    expect(() => both.host.listen(1, () => {})).toThrow(/^EADDRINUSE: /);
    expect(() => both.host.listen(-1, () => {})).toThrow(/^EINVAL: /);
    await rejected("EINVAL", both.guest.connect(2, 0xffff_ffff));
    await rejected("ENODEV", both.guest.connect(3, 1));
    await rejected("EINVAL", both.host.connect(1, { timeout: 3 } as object));
    const given = both.guest.connect(2, 1, { signal: AbortSignal.abort(new Error("no")) });
    await expect(given).rejects.toThrow("no");
    await both.guest.close();
    await rejected("ETIMEDOUT", both.host.connect(1, { timeoutMs: 20 })); // no guest to answer
  });
});
