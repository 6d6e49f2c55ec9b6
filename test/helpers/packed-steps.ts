// Runs the steps of `packed-program.ts`: calls the ring, or writes what a hostile peer would write.

import {
  VQ_AVAIL_PUBLISHED,
  VQ_KICKED,
  VQ_LAST_AVAIL,
  VQ_LAST_USED,
  VQ_RESUBMIT_COUNT,
  VQ_SIGNALLED,
  VQ_USED_NEXT,
  VQ_USED_PUBLISHED,
} from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "#dist/spec/virtio-ring.js";
import {
  AVAIL_0,
  AVAIL_1,
  type PackedDesc,
  type PackedFixture,
  positionAt,
  USED_0,
  USED_1,
} from "./packed-fixture.js";
import { FIRST } from "./packed-pair.js";
import type { Again, List, PackedStep, Spot } from "./packed-program.js";
import { forget } from "./record-area.js";
import type { Buffer, Table } from "./ring-program.js";
import { applyStep, getDescs, poke, resolve, type Subject } from "./ring-steps.js";

/** One implementation under test, over its own memory. */
export interface PackedSubject extends Subject {
  fixture: PackedFixture;
}

/** The index of the descriptor at a position. */
export const indexAt = (position: number): number => position & 0x7fff;
const isFirstLap = (position: number): boolean => (position & 0x8000) !== 0;
const availableAt = (position: number): number => (isFirstLap(position) ? AVAIL_1 : AVAIL_0);

/** AVAIL and USED of a descriptor that is used at a position. */
export const usedAt = (position: number): number => (isFirstLap(position) ? USED_1 : USED_0);

/** The position `count` descriptors after another, or before it. */
function after(position: number, count: number, num: number): number {
  const steps = indexAt(position) + (isFirstLap(position) ? 0 : num) + count;
  const laps = 2 * num;
  return positionAt(((steps % laps) + laps) % laps, num);
}

const nextAvail = (fixture: PackedFixture, ahead = 0): number =>
  after(fixture.word("device", VQ_LAST_AVAIL), ahead, fixture.num);
const nextUsed = (fixture: PackedFixture, ahead = 0): number =>
  after(fixture.word("driver", VQ_LAST_USED), ahead, fixture.num);

/** Index of the descriptor that a spot names. */
function indexOf(fixture: PackedFixture, { from, ahead }: Spot): number {
  if (from === "avail") return indexAt(nextAvail(fixture, ahead));
  if (from === "used") return indexAt(nextUsed(fixture, ahead));
  return Math.abs(ahead) % fixture.num;
}

function descOf(fixture: PackedFixture, { place, len, write }: Buffer, flags: number, id: number) {
  return {
    addr: resolve(fixture, place),
    len,
    id,
    flags: flags | (write ? VIRTQ_DESC_F_WRITE : 0),
  } satisfies PackedDesc;
}

/** Writes descriptors with AVAIL and USED as a list has them, linked, and broken as it says. */
function writeList(fixture: PackedFixture, list: List, descs: PackedDesc[]): void {
  const fitting = descs.slice(0, fixture.num);
  fitting.forEach((desc, k) => {
    const position = nextAvail(fixture, list.ahead + k);
    const goesOn = k < fitting.length - 1 || list.ending === "open";
    const isHole = list.ending === "hole" && k === list.hole % fitting.length;
    const marks = availableAt(position) ^ (isHole ? list.holeBits : 0);
    const flags = desc.flags | marks | (goesOn ? VIRTQ_DESC_F_NEXT : 0);
    fixture.writePacked(indexAt(position), { ...desc, flags });
  });
}

const buffersOf = (fixture: PackedFixture, { buffers, noise, id }: List): PackedDesc[] =>
  buffers.map((buffer, k) => descOf(fixture, buffer, noise, (id + k) & 0xffff));

function pokeDesc(fixture: PackedFixture, at: bigint, desc: PackedDesc): void {
  const bytes = new DataView(new ArrayBuffer(VIRTQ_DESC_BYTES));
  bytes.setBigUint64(0, desc.addr, true);
  bytes.setUint32(8, desc.len, true);
  bytes.setUint16(12, desc.id, true);
  bytes.setUint16(14, desc.flags, true);
  poke(fixture, at, bytes);
}

function offerTable(fixture: PackedFixture, list: List, table: Table, noise: number): void {
  const at = resolve(fixture, table.place);
  table.entries.forEach((entry, i) => {
    const nested = table.nested ? VIRTQ_DESC_F_INDIRECT : 0;
    const flags = nested | (table.ending === "loop" ? VIRTQ_DESC_F_NEXT : 0) | noise;
    pokeDesc(fixture, at + BigInt(i * VIRTQ_DESC_BYTES), descOf(fixture, entry, flags, i));
  });
  const len = (table.entries.length * VIRTQ_DESC_BYTES + table.lenDelta) >>> 0;
  const flags = VIRTQ_DESC_F_INDIRECT | noise;
  const named = { addr: at, len, id: list.id, flags };
  const behind = table.next ? [{ addr: at, len: 1, id: list.id, flags: 0 }] : [];
  writeList(fixture, list, [...buffersOf(fixture, list), named, ...behind]);
}

/** Makes the whole ring available, in lists of `run` descriptors. */
function flood(fixture: PackedFixture, step: Extract<PackedStep, { op: "flood" }>): void {
  const { num } = fixture;
  const addr = resolve(fixture, step.place);
  for (let i = 0; i < num; i++) {
    const position = nextAvail(fixture, i);
    const goesOn = (i + 1) % step.run !== 0 && (i < num - 1 || step.open);
    const kind = i === step.indirect ? VIRTQ_DESC_F_INDIRECT : 0;
    const flags = availableAt(position) | kind | (goesOn ? VIRTQ_DESC_F_NEXT : 0);
    fixture.writePacked(indexAt(position), { addr, len: step.len, id: num - 1 - i, flags });
  }
}

/** Offers a ring whose descriptors all name one table, of buffers without bytes. */
function storm(subject: PackedSubject, step: Extract<PackedStep, { op: "storm" }>): number {
  const { fixture } = subject;
  const { place, write } = step;
  const room = Math.floor((fixture.shape.dataBytes - 16) / VIRTQ_DESC_BYTES);
  const count = Math.min(step.entries, room);
  const addr = fixture.guestOf(fixture.data) + BigInt(place.delta);
  for (let i = 0; i < count; i++) {
    const desc = descOf(fixture, { place, len: 0, write }, 0, 0);
    pokeDesc(fixture, addr + BigInt(i * VIRTQ_DESC_BYTES), desc);
  }
  for (let i = 0; i < fixture.num; i++) {
    const position = nextAvail(fixture, i);
    const flags = VIRTQ_DESC_F_INDIRECT | availableAt(position);
    const desc = { addr, len: count * VIRTQ_DESC_BYTES, id: i, flags };
    fixture.writePacked(indexAt(position), desc);
  }
  return getDescs(subject, 1000);
}

function start(subject: PackedSubject, again: Again): number {
  const { fixture, device, popped } = subject;
  const [avail, used] = [VQ_LAST_AVAIL, VQ_USED_NEXT].map((word) => fixture.word("device", word));
  const [added, got] = [VQ_AVAIL_PUBLISHED, VQ_LAST_USED].map((w) => fixture.word("driver", w));
  const join = (low = 0, high = 0) => (low | (high << 16)) >>> 0;
  if (again.how === "same") {
    if (fixture.isInflight) fixture.setWord("device", VQ_RESUBMIT_COUNT, 0);
    return device.start(join(avail, used));
  }
  popped.length = 0;
  const begin = (position: number) => {
    forget(fixture, position);
    return device.start(position);
  };
  if (again.how === "driver") return begin(join(again.pop ? got : added, got));
  if (again.how === "raw") return begin(again.position);
  const { num } = fixture;
  const near = [after(avail ?? 0, again.avail, num), after(used ?? 0, again.used, num)];
  return begin(join(...near));
}

/** Chains of one descriptor all the way, one by one, or made visible now and then only. */
function laps(subject: PackedSubject, step: Extract<PackedStep, { op: "laps" }>): string {
  const { fixture, driver, device } = subject;
  const answers: unknown[] = [];
  for (let i = 0; i < step.times; i++) {
    fixture.setChain(0, 0, [], [{ linear: fixture.data, bytes: step.bytes }]);
    answers.push(driver.addBufs(1));
    if (step.publish || i % 3 === 2) driver.publish();
    const got = getDescs(subject, 3);
    for (let k = 0; k < got; k++) {
      answers.push(device.addUsed(subject.popped.shift() ?? 0, step.bytes));
      if (step.publish) device.publish();
    }
    device.publish();
    answers.push(got, driver.kickNeeded(), device.callNeeded(), driver.getBufs(2));
  }
  return answers.join();
}

/** What one side asks the other for: a position near what the other published last. */
function writeEvent(fixture: PackedFixture, step: Extract<PackedStep, { op: "event" }>): void {
  const position =
    step.side === "driver"
      ? fixture.word("device", VQ_USED_PUBLISHED)
      : fixture.word("driver", VQ_AVAIL_PUBLISHED);
  const word = (step.word | after(position, step.ahead, fixture.num)) ^ step.bits;
  if (step.side === "driver") fixture.driverEvent = word >>> 0;
  else fixture.deviceEvent = word >>> 0;
}

/** What a peer writes by hand. */
function scribble(fixture: PackedFixture, step: PackedStep): void {
  switch (step.op) {
    case "offer":
      writeList(fixture, step.list, buffersOf(fixture, step.list));
      break;
    case "offerTable":
      offerTable(fixture, step.list, step.table, step.noise);
      break;
    case "flood":
      flood(fixture, step);
      break;
    case "writeDesc": {
      const desc = descOf(fixture, step.buffer, step.flags, step.id);
      fixture.writePacked(indexOf(fixture, step.spot), desc);
      break;
    }
    case "flip": {
      const index = indexOf(fixture, step.spot);
      fixture.setFlags(index, fixture.packedDesc(index).flags ^ step.bits);
      break;
    }
    case "usedDesc": {
      const position = nextUsed(fixture, step.ahead);
      const { addr } = fixture.packedDesc(indexAt(position));
      const id = step.id < 0 ? fixture.num : step.id;
      const flags = usedAt(position) | step.noise;
      fixture.writePacked(indexAt(position), { addr, len: step.len, id, flags });
      break;
    }
    case "tired":
      fixture.setWord("driver", VQ_KICKED, step.kicked);
      fixture.setWord("device", VQ_SIGNALLED, step.signalled);
      break;
    case "event":
      writeEvent(fixture, step);
      break;
    default:
      throw new TypeError(`unknown step ${step.op}`);
  }
}

/** Runs one step. @returns what the ring answered; undefined where it answers nothing. */
export function applyPackedStep(subject: PackedSubject, step: PackedStep): unknown {
  const { fixture, driver, device, popped } = subject;
  switch (step.op) {
    case "restart":
      driver.reset();
      popped.length = 0;
      forget(fixture, FIRST);
      return device.start(FIRST);
    case "start":
      return start(subject, step);
    case "laps":
      return laps(subject, step);
    case "storm":
      return storm(subject, step);
    case "offer":
    case "offerTable":
    case "flood":
    case "writeDesc":
    case "flip":
    case "usedDesc":
    case "tired":
    case "event":
      return scribble(fixture, step);
    default:
      return applyStep(subject, step);
  }
}
