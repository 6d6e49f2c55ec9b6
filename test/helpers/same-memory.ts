// Holds the memories of two rings of one shape against each other, byte by byte.

import { expect } from "vitest";
import { CHAIN_BYTES, IOV_BYTES } from "#dist/spec/ring-state.js";
import type { RingFixture } from "./ring-fixture.js";
import type { Subject } from "./ring-steps.js";

/** Names the byte at a linear address. */
function nameOf(fixture: RingFixture, at: number): string {
  const { driver, device, shadow, guestStart, desc, avail, used, tables, data, areas } = fixture;
  const places = Object.entries({
    driver: driver.vq,
    "driver iov": driver.iov,
    "driver chains": driver.chains,
    device: device.vq,
    "device iov": device.iov,
    "device chains": device.chains,
    shadow,
    "other regions": guestStart,
    desc,
    avail,
    used,
    tables: tables || data,
    data,
    log: areas.log,
    inflight: areas.inflight,
    "inflight table": areas.table,
    resubmit: areas.resubmit,
  });
  const [name, start] = places.findLast(([, from]) => at >= from) ?? ["?", 0];
  return `${name} + ${at - start}`;
}

/** Fails at the first byte of a range in which two memories differ. */
function sameBytes(a: RingFixture, b: RingFixture, start: number, end: number): void {
  const [left, right] = [a, b].map((f) => Buffer.from(f.memory.buffer, start, end - start));
  if (left === undefined || right === undefined || left.equals(right)) return;
  const at = left.findIndex((byte, i) => byte !== right[i]);
  const name = nameOf(a, start + at);
  expect.fail(`${name}: wasm ${left[at]}, ts ${right[at]}`);
}

/** Everything but what `getDescs` leaves behind the good records: that is scratch. */
export function sameMemory(wasm: Subject, ts: Subject): void {
  const { fixture, got } = wasm;
  const { driver, device, shadow, end } = fixture;
  sameBytes(fixture, ts.fixture, driver.vq, device.iov);
  sameBytes(fixture, ts.fixture, shadow, end);
  sameBytes(fixture, ts.fixture, device.chains, device.chains + got * CHAIN_BYTES);
  if (got === 0) return;
  const { iovStart, outCount, inCount } = fixture.record("device", got - 1);
  const iovEnd = device.iov + (iovStart + outCount + inCount) * IOV_BYTES;
  sameBytes(fixture, ts.fixture, device.iov, iovEnd);
}
