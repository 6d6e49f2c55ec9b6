// A driver that was closed touches nothing any more: its memory may be someone else's by then.

import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { BlkDriver } from "#dist/driver/blk.js";
import { CustomDriver } from "#dist/driver/custom.js";
import { blk, Kernel } from "#dist/index.js";
import type { SharedMemory } from "#dist/memory/shared-memory.js";
import { VIRTIO_F_EVENT_IDX } from "#dist/spec/virtio-config.js";
import { VhostDev } from "#dist/vhost/dev.js";
import type { DeviceSpec } from "#dist/vhost/device.js";
import { custom, rejected } from "../helpers/devices.js";
import { TestTransport } from "../helpers/test-transport.js";

async function open(spec: DeviceSpec) {
  const kernel = new Kernel();
  const process = kernel.spawn({ memoryBytes: 1 << 20 });
  const dev = new VhostDev(kernel.model, { run: "inline" });
  dev.setOwner(process.task);
  await dev.setBackend(spec);
  return { dev, transport: new TestTransport(dev), shared: dev.sharedMemory };
}

/** Takes all the memory there is and fills it; the function tells whether it is still so. */
function occupy(shared: SharedMemory): () => boolean {
  const [host, guest] = [shared.host, shared.guest].map((arena) => {
    const { freeBytes } = arena;
    return shared.bytes.subarray(arena.alloc(freeBytes, 1)).subarray(0, freeBytes);
  });
  host?.fill(0x5a);
  guest?.fill(0x5a);
  return () => !!host?.every((byte) => byte === 0x5a) && !!guest?.every((byte) => byte === 0x5a);
}

test("closed in its sleep, it leaves the rings alone when it is called", async () => {
  const { dev, transport, shared } = await open(custom("hangs"));
  const withoutFeatures = [VIRTIO_F_EVENT_IDX]; // so that it writes to avail.flags
  const driver = await CustomDriver.probe(transport, { withoutFeatures });
  const pending = rejected("ENODEV", driver.request(0, new Uint8Array(4), 4));
  while (transport.sleeps === 0) await nextTurn();
  await driver.close();
  await pending;
  const isUntouched = occupy(shared);
  dev.worker.doorbell.call(0);
  for (let i = 0; i < 5; i++) await nextTurn();
  expect(isUntouched()).toBe(true);
  await dev.close();
});

test("requests that waited for a place when it was closed write no header any more", async () => {
  const { dev, transport, shared } = await open(blk({ nullBytes: 1 << 20 }));
  const drive = await BlkDriver.probe(transport, { queueSize: 4 });
  using buffer = drive.alloc(512);
  const pending = Array.from({ length: 1500 }, () => drive.readInto(0, buffer));
  const results = Promise.allSettled(pending);
  await drive.close();
  buffer.free();
  const isUntouched = occupy(shared);
  const codes = (await results).map((r) => (r.status === "rejected" ? r.reason.code : "fulfilled"));
  expect(new Set(codes)).toEqual(new Set(["ENODEV"]));
  expect(isUntouched()).toBe(true);
  await dev.close();
});

test("closed with a request not yet published, it publishes nothing", async () => {
  const { dev, transport, shared } = await open(custom("hangs"));
  const driver = await CustomDriver.probe(transport);
  const pending = rejected("ENODEV", driver.request(0, new Uint8Array(4), 4));
  await driver.close();
  const isUntouched = occupy(shared);
  await pending;
  for (let i = 0; i < 5; i++) await nextTurn();
  expect(isUntouched()).toBe(true);
  await dev.close();
});

test("a request after close is ENODEV, and takes no memory", async () => {
  const { dev, transport, shared } = await open(blk({ nullBytes: 1 << 20 }));
  const { freeBytes } = shared.guest;
  const drive = await BlkDriver.probe(transport);
  await drive.close();
  await rejected("ENODEV", drive.read(0, 512));
  await rejected("ENODEV", drive.write(0, new Uint8Array(512)));
  await rejected("ENODEV", drive.flush());
  await rejected("ENODEV", drive.getId());
  expect(shared.guest.freeBytes).toBe(freeBytes);
  await dev.close();
});
