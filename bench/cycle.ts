// The timed loops over one ring. Every implementation gets an evaluation of this module of its own
// (`import("./cycle.js?wasm")`): the engine optimises its loops for that implementation alone, as
// in a program that uses one.

import type { DeviceRing, DriverRing } from "#dist/ring/ring.js";
import type { RingTables } from "#dist/ring/tables.js";
import type { Buffers } from "./pair.js";

const ALL_HEADS = 0xffff;

/** What a loop works on; `next` is the slot of the next chain. */
export interface Loop {
  readonly driver: DriverRing;
  readonly device: DeviceRing;
  readonly driverTables: RingTables;
  readonly deviceTables: RingTables;
  readonly buffers: Buffers;
  readonly pieces: number;
  next: number;
}

/** The driver's host: writes the records of `count` chains and their pieces. */
export function describe(loop: Loop, count: number): void {
  const { driverTables: tables, pieces } = loop;
  const { addresses, lengths, slots } = loop.buffers;
  const outCount = pieces >> 1; // 0 of 1; 1 of 3
  for (let chain = 0, iov = 0; chain < count; chain++) {
    tables.setChain(chain, iov, outCount, pieces - outCount);
    const first = loop.next * pieces;
    for (let piece = first; piece < first + pieces; piece++, iov++) {
      tables.setIov(iov, addresses[piece] as number, lengths[piece] as number);
    }
    loop.next = loop.next + 1 === slots ? 0 : loop.next + 1;
  }
}

/**
 * The device's host: reads `count` chains and their pieces, and says what it wrote: all. Of heads
 * it adds up the bits in `headMask`: none where they depend on timing.
 */
export function serve(tables: RingTables, count: number, headMask: number): number {
  let sum = 0;
  for (let chain = 0; chain < count; chain++) {
    sum = (sum + (tables.head(chain) & headMask)) | 0;
    const start = tables.iovStart(chain);
    const end = start + tables.outCount(chain) + tables.inCount(chain);
    for (let iov = start; iov < end; iov++) {
      sum = (sum + tables.iovAddress(iov) + tables.iovLength(iov)) | 0;
    }
    tables.setUsedBytes(chain, tables.inBytes(chain));
  }
  return sum;
}

/** The driver's host: reads what came back. `headMask` as for `serve`. */
export function collect(tables: RingTables, count: number, headMask: number): number {
  let sum = 0;
  for (let chain = 0; chain < count; chain++) {
    sum = (sum + (tables.head(chain) & headMask) + tables.usedBytes(chain)) | 0;
  }
  return sum;
}

/**
 * `bursts` bursts through the ring and back, both sides in this thread. Returns the checksum, with
 * the bits of heads that are in `headMask`, and notifications when those are all.
 */
export function fullCycles(
  loop: Loop,
  burst: number,
  bursts: number,
  headMask = ALL_HEADS,
): number {
  const { driver, device, driverTables, deviceTables } = loop;
  let sum = 0;
  let notified = 0;
  for (let left = bursts; left > 0; left--) {
    describe(loop, burst);
    const added = driver.addBufs(burst);
    driver.publish();
    if (driver.kickNeeded()) notified++;
    const got = device.getDescs(burst);
    sum = (sum + serve(deviceTables, got, headMask)) | 0;
    device.addUsedN(got);
    device.publish();
    if (device.callNeeded()) notified++;
    const back = driver.getBufs(burst);
    sum = (sum + collect(driverTables, back, headMask)) | 0;
    if (added !== burst || back !== burst)
      throw new Error(`${added} added, ${got} got, ${back} back`);
  }
  return headMask === ALL_HEADS ? (sum + notified) | 0 : sum;
}

/**
 * The device's half alone, over a ring that was filled beforehand: before each burst avail.idx goes
 * on, and the same chains are there again. `u16[idx]` is avail.idx. Returns the checksum.
 */
export function deviceCycles(
  { device, deviceTables }: Loop,
  burst: number,
  bursts: number,
  u16: Uint16Array,
  idx: number,
): number {
  let sum = 0;
  for (let left = bursts; left > 0; left--) {
    Atomics.store(u16, idx, (u16[idx] as number) + burst);
    const got = device.getDescs(burst);
    sum = (sum + serve(deviceTables, got, ALL_HEADS)) | 0;
    device.addUsedN(got);
    device.publish();
    if (device.callNeeded()) sum++;
    if (got !== burst) throw new Error(`${got} of ${burst} chains`);
  }
  return sum;
}
