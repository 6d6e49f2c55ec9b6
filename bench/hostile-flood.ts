// A second thread that keeps one queue full, of good chains or of bad ones, in the cheapest way
// there is: it publishes the same again as soon as all of it has come back.

import { workerData } from "node:worker_threads";
import {
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
} from "#dist/spec/virtio-ring.js";
import { FLOOD, FLOOD_CELL, type FloodSetup } from "./hostile-order.js";

/** Milliseconds between two looks: the cores are needed. */
const LOOK_MS = 0.02;
/** More than a chain may have. */
const TABLE_ENTRIES = 1025;
const HEADER = TABLE_ENTRIES * 16;
const GOOD_TABLE = HEADER + 1024;

const { memory, cell, isPacked, num, desc, driver, device, room } = workerData as FloodSetup;
const view = new DataView(memory.buffer);
const u16 = new Uint16Array(memory.buffer);
const at = (offset: number) => room.guest + BigInt(offset);

function write(to: number, addr: bigint, len: number, third: number, fourth: number): void {
  view.setBigUint64(to, addr, true);
  view.setUint32(to + 8, len, true);
  view.setUint16(to + 12, third, true);
  view.setUint16(to + 14, fourth, true);
}

/** A table of a good read: header, a sector, status. */
function writeGood(): void {
  const pieces = [
    [HEADER, 16, 0],
    [HEADER + 16, 512, VIRTQ_DESC_F_WRITE],
    [HEADER + 528, 1, VIRTQ_DESC_F_WRITE],
  ] as const;
  for (const [i, [offset, len, flags]] of pieces.entries()) {
    const all = flags | (i < 2 ? VIRTQ_DESC_F_NEXT : 0);
    const to = room.linear + GOOD_TABLE + 16 * i;
    write(to, at(offset), len, isPacked ? 0 : all, isPacked ? flags : i + 1);
  }
}

/** A table of entries of no bytes. */
function writeTable(): void {
  for (let i = 0; i < TABLE_ENTRIES; i++) {
    const next = isPacked ? 0 : VIRTQ_DESC_F_NEXT;
    write(room.linear + 16 * i, at(0), 0, next, isPacked ? 0 : i + 1);
  }
}

/** Address and bytes of what each chain is, but for circles. */
function tableOf(order: number): { addr: bigint; len: number } {
  if (order === FLOOD.good) return { addr: at(GOOD_TABLE), len: 48 };
  return { addr: at(0), len: TABLE_ENTRIES * 16 };
}

/** Split: the chain at descriptor 0, which every entry names. */
function writeChain(order: number): void {
  for (let i = 0; i < num; i++) view.setUint16(driver + 4 + 2 * i, 0, true);
  if (order !== FLOOD.circles) {
    const { addr, len } = tableOf(order);
    write(desc, addr, len, VIRTQ_DESC_F_INDIRECT, 0);
    return;
  }
  for (let i = 0; i < num; i++) write(desc + 16 * i, at(0), 0, VIRTQ_DESC_F_NEXT, (i + 1) % num);
}

let published = 0;
let wrap = true;

/** Publishes `num` chains. */
function fill(order: number): void {
  if (!isPacked) {
    published = (published + num) & 0xffff;
    Atomics.store(u16, (driver + 2) >>> 1, published);
    return;
  }
  const { addr, len } = tableOf(order);
  const flags = VIRTQ_DESC_F_INDIRECT | (wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED);
  for (let i = num - 1; i >= 0; i--) {
    view.setBigUint64(desc + 16 * i, addr, true);
    view.setUint32(desc + 16 * i + 8, len, true);
    Atomics.store(u16, (desc + 16 * i + 14) >>> 1, flags); // the first one last
  }
  wrap = !wrap;
}

/** Whether all that was published has come back: every one, for a batch's first is written last. */
function isBack(): boolean {
  if (!isPacked) return Atomics.load(u16, (device + 2) >>> 1) === published;
  const marks = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
  const used = wrap ? 0 : marks; // it was filled in the other lap
  for (let i = 0; i < num; i++) {
    if ((Atomics.load(u16, (desc + 16 * i + 14) >>> 1) & marks) !== used) return false;
  }
  return true;
}

const pause = () =>
  Atomics.wait(cell, FLOOD_CELL.state, Atomics.load(cell, FLOOD_CELL.state), LOOK_MS);

function flood(order: number): void {
  if (!isPacked) writeChain(order);
  Atomics.store(cell, FLOOD_CELL.state, order);
  while (Atomics.load(cell, FLOOD_CELL.order) === order) {
    fill(order);
    while (!isBack()) pause();
    Atomics.add(cell, FLOOD_CELL.fills, 1);
  }
  Atomics.store(cell, FLOOD_CELL.state, FLOOD.none);
}

writeGood();
writeTable();
for (;;) {
  const order = Atomics.load(cell, FLOOD_CELL.order);
  if (order === FLOOD.end) break;
  if (order !== FLOOD.none) flood(order);
  else Atomics.wait(cell, FLOOD_CELL.order, FLOOD.none);
}
