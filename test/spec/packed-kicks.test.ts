// What a packed ring's driver says in a kick. virtio 1.3, 2.8.16, 2.9 Driver Notifications.

import { expect, test } from "vitest";
import { CustomDriver } from "#dist/driver/custom.js";
import { custom } from "../helpers/devices.js";
import { openPlayed } from "../helpers/played-device.js";
import { KINDS } from "../helpers/split-pair.js";

test.each(KINDS)("2.8.16 driver: tells in a kick where it goes on", async (ring) => {
  const options = { queueSize: 3, packed: true, notificationData: true };
  const spec = custom("echo");
  await using played = await openPlayed(CustomDriver.probe, { ring, spec, ...options });
  const { driver, transport } = played;
  for (let i = 0; i < 4; i++) {
    const request = driver.request(0, Uint8Array.of(i), 1); // two descriptors
    await Promise.resolve();
    transport.dev.runPending();
    expect(await request).toEqual(Uint8Array.of(i));
  }
  // Index, and the wrap counter above it: 0 with 1 at first.
  expect(transport.kickData).toEqual([0x8002, 0x0001, 0x8000, 0x8002]);
  expect(transport.dev.errorCounts()).toEqual({});
});
