// A double fetch, through the whole path: a second thread rewrites descriptors, tables, headers and
// indexes while the worker pops and the device serves. What was checked has to be what is used: not
// a byte changes that is in no region, nobody dies, and after it the device serves as before.

import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { blk } from "#dist/index.js";
import { custom } from "../helpers/devices.js";
import {
  errorsOf,
  expectHeld,
  holdings,
  type OpenHostile,
  openHostile,
  PATIENT_MS,
  RINGS,
} from "../helpers/hostile.js";
import { seedOf } from "../helpers/seed.js";

const SEED = seedOf("hostile race");
/** A queue that is refused for good, its indexes being what they are, goes on after a reset. */
const RESET_EVERY_MS = 20;
const KICK_EVERY_MS = 2;
/** Where the buffers of the driver's own requests begin in the first region. */
const BUFFERS = 16384;

const PATIENT = { queueSize: 32, timeoutMs: PATIENT_MS };

/** What a race must have seen of each, to show something. */
const LEAST = { writes: 1000, requests: 20, errors: 5 };

/** Races for so long, and until there was enough of everything. */
async function race(open: OpenHostile, packed: boolean, ms: number): Promise<void> {
  const { driver, device } = open;
  const { regions } = driver.memory;
  const cell = new Int32Array(new SharedArrayBuffer(8));
  const { memory } = device.dev.sharedMemory;
  const places = regions.flatMap(({ guestAddress, sizeBytes }) => [
    guestAddress - 1n,
    guestAddress + sizeBytes - 8n,
  ]);
  const all = regions.map(({ guestAddress, sizeBytes }) => {
    return { guest: guestAddress, bytes: Number(sizeBytes) };
  });
  const [main, ...others] = all as [(typeof all)[0], ...typeof all];
  const behind = { guest: main.guest + BigInt(BUFFERS), bytes: main.bytes - BUFFERS };
  const worker = new Worker(new URL("../helpers/hostile-racer.mjs", import.meta.url), {
    workerData: {
      ...{ memory, cell, seed: SEED, packed, places },
      ...driver.ring(),
      room: { address: regions[1].linearAddress, guest: regions[1].guestAddress },
      regions: all,
      buffers: [behind, ...others],
    },
  });
  const ended = once(worker, "exit");
  const isEnough = () =>
    Atomics.load(cell, 1) > LEAST.writes &&
    device.dev.worker.counters.total().requests > LEAST.requests && // some were good, and worked on
    Object.keys(errorsOf(device)).length > LEAST.errors;
  for (const end = performance.now() + ms; performance.now() < end || !isEnough(); ) {
    await driver.reset();
    driver.memory.guardRegionsOnly(); // the areas' own canaries may be named by a descriptor
    const reset = performance.now() + RESET_EVERY_MS;
    for (; performance.now() < reset; await sleep(KICK_EVERY_MS)) driver.kick();
    if (driver.memory.damagedAt !== undefined) break;
  }
  Atomics.store(cell, 0, 1);
  expect(await ended).toEqual([0]);
}

/** All of the guest part that is not the driver's: nothing of it is in a region. */
function outside({ device, driver }: OpenHostile): Buffer {
  const { bytes, guestStart, guestBytes } = device.dev.sharedMemory;
  const { start, bytes: length } = driver.memory.extent;
  const before = bytes.slice(guestStart, start);
  return Buffer.concat([before, bytes.slice(start + length, guestStart + guestBytes)]);
}

/** A race, and what must hold after it. */
async function raceAndCheck(open: OpenHostile, packed: boolean, ms: number) {
  const { driver, device } = open;
  const { bytes, guestStart, guestBytes } = device.dev.sharedMemory;
  const { start, bytes: length } = driver.memory.extent;
  bytes.fill(0xd7, guestStart, start);
  bytes.fill(0xd7, start + length, guestStart + guestBytes);
  const before = { held: holdings(device), outside: outside(open) };
  await race(open, packed, ms);
  expect(device.dev.worker.death).toBeUndefined();
  expect(driver.memory.damagedAt).toBeUndefined();
  expect(outside(open).equals(before.outside)).toBe(true);
  await driver.reset();
  expect(await driver.request()).toBe(true);
  await expectHeld(device, before.held);
}

describe.each(RINGS)(`$format, $ring ring, FC_SEED=${SEED}`, ({ ring, packed }) => {
  test("a disk that can be written to, for 3 s", async () => {
    const spec = blk({ memoryBytes: 65536 });
    await using open = await openHostile({ ring }, { ...PATIENT, packed }, spec);
    await raceAndCheck(open, packed, 3000);
    await open.device.close();
  });

  test("a device of one's own, for 1 s", async () => {
    await using open = await openHostile({ ring }, { ...PATIENT, packed }, custom("echo"));
    await raceAndCheck(open, packed, 1000);
    await open.device.close();
  });
});
