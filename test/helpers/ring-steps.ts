// Runs the steps of `ring-program.ts`: calls the ring, or writes what a hostile peer would write.

import type { DeviceRing, DriverRing } from "#dist/ring/ring.js";
import {
  VQ_AVAIL_SEEN,
  VQ_LAST_AVAIL,
  VQ_LAST_USED,
  VQ_SIGNALLED,
  VQ_USED_PUBLISHED,
} from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "#dist/spec/virtio-ring.js";
import { forget, isResubmitting, recover } from "./record-area.js";
import type { RingFixture } from "./ring-fixture.js";
import type { Buffer, Chain, Ending, Place, Step, Table } from "./ring-program.js";

/** One implementation under test, over its own memory. */
export interface Subject {
  fixture: RingFixture;
  driver: DriverRing;
  device: DeviceRing;
  /** Heads that `getDescs` gave and no step has completed yet, oldest first. */
  popped: number[];
  /** Records of the device's chain table that the last `getDescs` wrote. */
  got: number;
}

/** The guest address that a place names. */
export function resolve(fixture: RingFixture, { region, anchor, delta }: Place): bigint {
  const { guest, bytes } = fixture.region(region % fixture.regions.length);
  const base = {
    start: guest,
    end: guest + BigInt(bytes),
    middle: guest + BigInt(bytes >> 1),
    border: ((guest >> 32n) + 1n) << 32n,
    top: 1n << 64n,
  };
  return BigInt.asUintN(64, base[anchor] + BigInt(delta));
}

/** Writes bytes at a guest address; those that no region holds are dropped. */
export function poke(fixture: RingFixture, at: bigint, bytes: DataView): void {
  for (let i = 0; i < bytes.byteLength; i++) {
    const addr = BigInt.asUintN(64, at + BigInt(i));
    const home = fixture.regions.find((r) => addr >= r.guest && addr < r.guest + BigInt(r.bytes));
    if (home) fixture.bytes[home.linear + Number(addr - home.guest)] = bytes.getUint8(i);
  }
}

/** Writes a descriptor at a guest address. */
function pokeDesc(fixture: RingFixture, at: bigint, buffer: Buffer, flags: number, next: number) {
  const desc = new DataView(new ArrayBuffer(VIRTQ_DESC_BYTES));
  desc.setBigUint64(0, resolve(fixture, buffer.place), true);
  desc.setUint32(8, buffer.len, true);
  desc.setUint16(12, flags | (buffer.write ? VIRTQ_DESC_F_WRITE : 0), true);
  desc.setUint16(14, next, true);
  poke(fixture, at, desc);
}

/** Writes linked buffers into the ring from slot `head` on. @returns the slot after the last. */
function writeChain(
  fixture: RingFixture,
  step: { head: number; stride: number; buffers: Buffer[]; noise: number },
  ending: Ending | "table",
): number {
  const { num } = fixture;
  const slot = (k: number): number => (((step.head + k * step.stride) % num) + num) % num;
  step.buffers.forEach(({ place, len, write }, k) => {
    const last = k === step.buffers.length - 1;
    const goesOn = !last || ending !== "end";
    const next = !last || ending === "table" ? slot(k + 1) : ending === "loop" ? slot(0) : num;
    const flags = (goesOn ? VIRTQ_DESC_F_NEXT : 0) | (write ? VIRTQ_DESC_F_WRITE : 0) | step.noise;
    fixture.writeDesc(slot(k), { addr: resolve(fixture, place), len, flags, next });
  });
  return slot(step.buffers.length);
}

function offerTable(fixture: RingFixture, head: number, buffers: Buffer[], table: Table): void {
  const at = resolve(fixture, table.place);
  const { entries, ending } = table;
  entries.forEach((entry, i) => {
    const last = i === entries.length - 1;
    const flags =
      (last && ending === "end" ? 0 : VIRTQ_DESC_F_NEXT) |
      (last && table.nested ? VIRTQ_DESC_F_INDIRECT : 0);
    const next = !last ? i + 1 : ending === "past" ? entries.length : 0;
    pokeDesc(fixture, at + BigInt(i * VIRTQ_DESC_BYTES), entry, flags, next);
  });
  const slot = writeChain(fixture, { head, stride: 1, buffers, noise: 0 }, "table");
  fixture.writeDesc(slot, {
    addr: at,
    len: (entries.length * VIRTQ_DESC_BYTES + table.lenDelta) >>> 0,
    flags: VIRTQ_DESC_F_INDIRECT | (table.next ? VIRTQ_DESC_F_NEXT : 0),
  });
  fixture.offer(head % fixture.num);
}

function flood(fixture: RingFixture, step: Omit<Extract<Step, { op: "flood" }>, "op">): void {
  const addr = resolve(fixture, step.place);
  const flags = step.loop ? VIRTQ_DESC_F_NEXT : 0;
  for (let i = 0; i < fixture.num; i++) {
    fixture.writeDesc(i, { addr, len: step.len, flags, next: (i + 1) % fixture.num });
  }
  for (let i = 0; i < Math.min(step.times, fixture.num); i++) fixture.offer(i);
}

function addBufs({ fixture, driver }: Subject, chains: Chain[], publish: boolean): number {
  const { iovCapacity, burst, dataBytes } = fixture.shape;
  let iov = 0;
  chains.slice(0, burst).forEach(({ out, into, mistake }, i) => {
    const pieces = [...out, ...into];
    const fits = iov + pieces.length <= iovCapacity;
    const iovStart = mistake === "past" ? iovCapacity - pieces.length + 1 : iov;
    fixture.setRecord("driver", i, { iovStart, outCount: out.length, inCount: into.length });
    if (!fits) return;
    pieces.forEach((bytes, k) => {
      const linear = fixture.data + ((iov * 37) % dataBytes);
      const huge = mistake === "overflow" && k === 0;
      fixture.setPiece(iov++, { linear, bytes: huge ? 0xffff_ffff - (bytes & 1) : bytes });
    });
  });
  const added = driver.addBufs(chains.length);
  if (publish) driver.publish();
  return added;
}

/** Pieces that a record names, in and at the ends of regions: the dirty log shows where. */
function piecesFor(fixture: RingFixture, { usedBytes }: { usedBytes: number }, record: number) {
  const { iovCapacity } = fixture.shape;
  const iovStart = (record * 3) % iovCapacity;
  const count = Math.min((usedBytes + record) % 4, iovCapacity - iovStart);
  for (let i = 0; i < count; i++) {
    const { linear, bytes } = fixture.region((usedBytes + record + i) % fixture.regions.length);
    const offset = ((usedBytes * 13 + i * 50) % (bytes + 20)) - 10;
    fixture.setPiece(iovStart + i, { linear: linear + offset, bytes: usedBytes % 9000 }, "device");
  }
  const outCount = Math.min(record & 1, count);
  return { iovStart, outCount, inCount: count - outCount };
}

function addUsedN(subject: Subject, step: Extract<Step, { op: "addUsedN" }>): number {
  const { fixture, device, popped } = subject;
  // What is to be resubmitted counts as in flight: it must not be used before it is popped.
  const most = isResubmitting(fixture) ? popped.length : fixture.shape.burst;
  const count = Math.min(step.count, fixture.shape.burst, most);
  let last: number | undefined; // comes again when there is no other
  for (let i = 0; i < count; i++) {
    last = popped.shift() ?? last;
    const isWrong = i === step.wrongAt && !isResubmitting(fixture);
    const head = isWrong ? fixture.num + i : (last ?? i);
    const usedBytes = step.usedBytes + i;
    const inBytes = usedBytes + (((step.whole >> (i % 8)) & 1) ^ 1);
    fixture.setRecord("device", i, { head, inBytes, usedBytes, ...piecesFor(fixture, step, i) });
  }
  subject.got = 0; // the records are overwritten
  const answer = device.addUsedN(isResubmitting(fixture) ? count : step.count);
  if (step.publish) device.publish();
  return answer;
}

function addUsed({ fixture, device, popped }: Subject, step: Extract<Step, { op: "addUsed" }>) {
  if (isResubmitting(fixture) && (step.wrong || popped.length === 0)) return 0;
  const index = fixture.shape.inOrder ? 0 : step.pick % (popped.length || 1);
  const head = step.wrong ? step.head : (popped.splice(index, 1)[0] ?? step.head % fixture.num);
  const answer = device.addUsed(head, step.usedBytes);
  if (step.publish) device.publish();
  return answer;
}

/** Pops a burst, and remembers what came. @returns its answer. */
export function getDescs(subject: Subject, max: number): number {
  const answer = subject.device.getDescs(max);
  subject.got = Math.max(answer, 0);
  for (let i = 0; i < answer; i++) subject.popped.push(subject.fixture.record("device", i).head);
  return answer;
}

function restart(subject: Subject, lastAvail: number): void {
  forget(subject.fixture, lastAvail);
  subject.device.start(lastAvail);
  subject.popped.length = 0;
}

/** Offers the whole ring of good chains twice and completes none. */
function hoard(subject: Subject, place: Place): string {
  const { fixture } = subject;
  return [1, 2]
    .map(() => {
      fixture.availIdx = fixture.word("device", VQ_LAST_AVAIL);
      flood(fixture, { loop: false, times: fixture.num, place, len: 1 });
      return getDescs(subject, 1000);
    })
    .join();
}

/** Offers a ring whose descriptors all name one table, of buffers without bytes, and go on. */
function storm(subject: Subject, step: Omit<Extract<Step, { op: "storm" }>, "op">): number {
  const { fixture } = subject;
  const { num, data } = fixture;
  const { place, entries, write, ending } = step;
  const room = Math.floor((fixture.shape.dataBytes - 16) / VIRTQ_DESC_BYTES);
  const count = Math.min(entries, room);
  const table = fixture.guestOf(data) + BigInt(place.delta);
  for (let i = 0; i < count; i++) {
    const flags = i + 1 < count ? VIRTQ_DESC_F_NEXT : 0;
    const at = table + BigInt(i * VIRTQ_DESC_BYTES);
    pokeDesc(fixture, at, { place, len: 0, write }, flags, i + 1);
  }
  for (let i = 0; i < num; i++) {
    const isLast = i === num - 1;
    const flags = VIRTQ_DESC_F_INDIRECT | (isLast && ending === "end" ? 0 : VIRTQ_DESC_F_NEXT);
    const next = !isLast ? i + 1 : ending === "loop" ? 0 : num;
    fixture.writeDesc(i, { addr: table, len: count * VIRTQ_DESC_BYTES, flags, next });
  }
  restart(subject, fixture.availIdx);
  fixture.offer(0);
  return getDescs(subject, 1);
}

/** One chain all the way: to the device and back. */
function pass(subject: Subject, chain: Chain, usedBytes: number): string {
  const { fixture, driver, device } = subject;
  const answers: unknown[] = [addBufs(subject, [chain], true), driver.kickNeeded()];
  const got = getDescs(subject, 1);
  if (fixture.isInflight) subject.popped.length -= Math.max(got, 0); // what is used is used once
  answers.push(got, got === 1 && device.addUsed(fixture.record("device", 0).head, usedBytes));
  device.publish();
  answers.push(device.callNeeded(), driver.getBufs(1));
  return answers.join();
}

/** Chains that come back all at once, used completely; the driver takes so many, and may end. */
function batch(subject: Subject, step: Extract<Step, { op: "batch" }>): string {
  const { fixture, driver, device, popped } = subject;
  const chains = Array.from({ length: step.chains }, (_, i): Chain => {
    return { out: [], into: [i], mistake: "none" };
  });
  const answers: unknown[] = [addBufs(subject, chains, true), getDescs(subject, 1000)];
  popped.length -= subject.got;
  for (let i = 0; i < subject.got; i++) {
    fixture.setRecord("device", i, { usedBytes: fixture.record("device", i).inBytes });
  }
  answers.push(device.addUsedN(subject.got));
  device.publish();
  answers.push(driver.getBufs(step.take), driver.enableCall());
  if (step.reset) driver.reset();
  return answers.join();
}

/** What the ring's owner or its peer writes by hand. */
function scribble(fixture: RingFixture, step: Step): void {
  switch (step.op) {
    case "writeDesc": {
      const { place, len } = step.buffer;
      const desc = { addr: resolve(fixture, place), len, flags: step.flags, next: step.next };
      fixture.writeDesc(step.index % fixture.num, desc);
      return;
    }
    case "offer":
      writeChain(fixture, step, step.ending);
      fixture.offer(step.head % fixture.num);
      return;
    case "offerTable":
      offerTable(fixture, step.head, step.buffers, step.table);
      return;
    case "flood":
      flood(fixture, step);
      return;
    case "stale": {
      const published = fixture.word("device", VQ_USED_PUBLISHED);
      fixture.setWord("device", VQ_SIGNALLED, (published + step.ahead) & 0xffff);
      return;
    }
    case "availIdx": {
      const { last, seen, self } = {
        last: fixture.word("device", VQ_LAST_AVAIL),
        seen: fixture.word("device", VQ_AVAIL_SEEN),
        self: fixture.availIdx,
      };
      fixture.availIdx = { last, seen, self }[step.from] + step.delta;
      return;
    }
    case "availHead":
      fixture.setAvailHead(
        (fixture.word("device", VQ_LAST_AVAIL) + step.ahead) % fixture.num,
        step.head < 0 ? fixture.num : step.head,
      );
      return;
    case "usedIdx": {
      const last = fixture.word("driver", VQ_LAST_USED);
      fixture.usedIdx = (step.from === "last" ? last : fixture.usedIdx) + step.delta;
      return;
    }
    case "usedElem": {
      const next = fixture.word("driver", VQ_LAST_USED) + step.ahead;
      fixture.setUsedElem(next % fixture.num, step.id < 0 ? fixture.num : step.id, step.len);
      if (step.publish) fixture.usedIdx = next + 1;
      return;
    }
    case "words":
      Object.assign(fixture, { availFlags: step.availFlags, usedFlags: step.usedFlags });
      Object.assign(fixture, { usedEvent: step.usedEvent, availEvent: step.availEvent });
      return;
    default:
      throw new TypeError(`unknown step ${step.op}`);
  }
}

/** Runs one step. @returns what the ring answered; undefined where it answers nothing. */
export function applyStep(subject: Subject, step: Step): unknown {
  const { driver, device } = subject;
  switch (step.op) {
    case "addBufs":
      return addBufs(subject, step.chains, step.publish);
    case "driverPublish":
      return driver.publish();
    case "kickNeeded":
    case "enableCall":
    case "disableCall":
    case "reset":
      return driver[step.op]();
    case "restart":
      driver.reset();
      return restart(subject, 0);
    case "getBufs":
      return driver.getBufs(step.max);
    case "devicePublish":
      return device.publish();
    case "callNeeded":
    case "enableKick":
    case "disableKick":
    case "availLen":
      return device[step.op]();
    case "getDescs":
      return getDescs(subject, step.max);
    case "start":
      return restart(subject, step.lastAvail);
    case "addUsed":
      return addUsed(subject, step);
    case "addUsedN":
      return addUsedN(subject, step);
    case "hoard":
      return hoard(subject, step.place);
    case "storm":
      return storm(subject, step);
    case "catchUp":
      return restart(subject, subject.fixture.availIdx);
    case "recover":
      subject.popped.length = 0;
      return recover(subject.fixture, (position) => device.start(position), step);
    case "batch":
      return batch(subject, step);
    case "pass":
      return pass(subject, step.chain, step.usedBytes);
    default:
      return scribble(subject.fixture, step);
  }
}
