// A capture of a port's packets: the file as Wireshark reads it.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Kernel, net } from "#dist/index.js";
import { rejected } from "../helpers/devices.js";
import { frameOf, station } from "../helpers/net-frames.js";
import { tempFiles } from "../helpers/temp-file.js";

const makeFile = tempFiles();

interface Captured {
  seconds: number;
  original: number;
  frame: Buffer;
}

/** draft-ietf-opsawg-pcap: all records of a file. */
function readPcap(path: string): Captured[] {
  const file = readFileSync(path);
  expect([file.readUInt32LE(0), file.readUInt16LE(4), file.readUInt16LE(6)]).toEqual([
    0xa1b2c3d4, 2, 4,
  ]);
  expect(file.readUInt32LE(20)).toBe(1); // Ethernet
  const records: Captured[] = [];
  for (let at = 24; at < file.length; ) {
    const length = file.readUInt32LE(at + 8);
    expect(length).toBeLessThanOrEqual(file.readUInt32LE(16));
    expect(file.readUInt32LE(at + 4)).toBeLessThan(1_000_000);
    records.push({
      seconds: file.readUInt32LE(at),
      original: file.readUInt32LE(at + 12),
      frame: file.subarray(at + 16, at + 16 + length),
    });
    at += 16 + length;
  }
  return records;
}

test("both ways, in their order, whole", async () => {
  const path = makeFile(0, "both.pcap");
  await using process = new Kernel().spawn({ memoryBytes: 8 << 20 });
  const nic = net({ pcap: path, onPacket: () => {} });
  const device = await process.open(nic);
  const driver = await device.driver();
  const frames = Array.from({ length: 40 }, (_, i) => {
    const frame = frameOf(station(i % 2), station(1 - (i % 2)), i);
    return Buffer.concat([frame, Buffer.alloc(i * 37, i)]);
  });
  for (const [i, frame] of frames.entries()) {
    if (i % 2 === 0) await driver.send(frame);
    else {
      while (!nic.send(frame)) await sleep(0);
      expect(Buffer.from(await driver.receive())).toEqual(frame);
    }
  }
  await device.close();
  const records = readPcap(path);
  expect(records.map(({ frame }) => frame)).toEqual(frames);
  expect(records.map(({ original }) => original)).toEqual(frames.map(({ length }) => length));
  const now = Date.now() / 1000;
  for (const { seconds } of records) expect(Math.abs(seconds - now)).toBeLessThan(60);
});

test("a file that can't be made is said when the device is opened", async () => {
  await using process = new Kernel().spawn();
  await rejected("ENOENT", process.open(net({ pcap: "/nowhere/at/all.pcap" })));
  expect(() => net({ pcap: "" })).toThrow(/pcap/);
});

test("a full disk ends the capture, not the device: told once, and counted", async () => {
  await using process = new Kernel().spawn({ memoryBytes: 8 << 20 });
  let got = 0;
  const errors: unknown[] = [];
  const onError = (error: unknown) => errors.push(error);
  const nic = net({ pcap: "/dev/full", onPacket: () => got++, onError });
  const device = await process.open(nic);
  const driver = await device.driver();
  for (let i = 0; i < 3; i++) await driver.send(frameOf(station(1), station(0), i));
  await expect.poll(() => got).toBe(3);
  await expect.poll(() => errors).toMatchObject([{ code: "ENOSPC", facts: { path: "/dev/full" } }]);
  await expect.poll(() => nic.uncaptured).toBe(3); // it is written after the burst
  await device.close();
  const again = await process.open(nic);
  await (await again.driver()).send(frameOf(station(1), station(0), 3));
  await expect.poll(() => nic.uncaptured).toBe(4);
  expect(errors).toHaveLength(1);
  expect(() => net({ pcap: "/dev/full", onError: 1 } as object)).toThrow(/onError/);
});
