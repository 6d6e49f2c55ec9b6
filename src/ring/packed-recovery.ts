import {
  INFLIGHT_DESC_COUNTER,
  INFLIGHT_PACKED_DESC_ADDR,
  INFLIGHT_PACKED_DESC_BYTES,
  INFLIGHT_PACKED_DESC_FLAGS,
  INFLIGHT_PACKED_DESC_ID,
  INFLIGHT_PACKED_DESC_LAST,
  INFLIGHT_PACKED_DESC_LEN,
  INFLIGHT_PACKED_DESC_NEXT,
  INFLIGHT_PACKED_DESC_NUM,
  INFLIGHT_PACKED_DESCS,
  INFLIGHT_PACKED_FREE_HEAD,
  INFLIGHT_PACKED_OLD_FREE_HEAD,
  INFLIGHT_PACKED_OLD_USED_IDX,
  INFLIGHT_PACKED_OLD_USED_WRAP,
  INFLIGHT_PACKED_USED_IDX,
  INFLIGHT_PACKED_USED_WRAP,
} from "../spec/inflight.js";
import {
  INFLIGHT_ENTRY_BYTES,
  INFLIGHT_ENTRY_COUNT,
  INFLIGHT_ENTRY_LAST,
  INFLIGHT_ENTRY_NEXT,
  INFLIGHT_ENTRY_OLDER,
} from "../spec/ring-state.js";
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_LEN,
} from "../spec/virtio-ring.js";
import {
  badRegion,
  byCounter,
  counterAfter,
  isWritten,
  type Recovery,
  signRegion,
  snapshot,
} from "./inflight.js";
import { availableMarks, indexOf, isAvailable, moved } from "./ts-position.js";

/** An id is any u16: our table has a word for each. */
const IDS = 65536;
const WRAP = 0x8000;

/** The flags of the ring's descriptors, by index. */
export interface DescFlags {
  get(index: number): number;
  set(index: number, flags: number): void;
}

/** A list in flight: its entries, the first one first. */
interface List {
  /** Its first entry. */
  index: number;
  counter: bigint;
  entries: number[];
}

/** Address in the region of an entry. */
const entryAt = (entry: number) => INFLIGHT_PACKED_DESCS + entry * INFLIGHT_PACKED_DESC_BYTES;

function readPosition(region: DataView, num: number, idx: number, wrap: number): number {
  const index = region.getUint16(idx, true);
  const counter = region.getUint8(wrap);
  if (index >= num || counter > 1) throw badRegion("a used index is none", { index, counter, num });
  return index | (counter === 1 ? WRAP : 0);
}

function writePosition(region: DataView, position: number): void {
  for (const at of [INFLIGHT_PACKED_USED_IDX, INFLIGHT_PACKED_OLD_USED_IDX]) {
    region.setUint16(at, indexOf(position), true);
  }
  for (const at of [INFLIGHT_PACKED_USED_WRAP, INFLIGHT_PACKED_OLD_USED_WRAP]) {
    region.setUint8(at, position >>> 15);
  }
}

/** Where used descriptors and free entries are: what was under way is finished or taken back. */
function settle(region: DataView, num: number, flags: DescFlags): { used: number; free: number } {
  const old = readPosition(
    region,
    num,
    INFLIGHT_PACKED_OLD_USED_IDX,
    INFLIGHT_PACKED_OLD_USED_WRAP,
  );
  const next = readPosition(region, num, INFLIGHT_PACKED_USED_IDX, INFLIGHT_PACKED_USED_WRAP);
  const isPublished = next !== old && !isAvailable(flags.get(indexOf(old)), old);
  const at = isPublished ? INFLIGHT_PACKED_FREE_HEAD : INFLIGHT_PACKED_OLD_FREE_HEAD;
  return { used: isPublished ? next : old, free: region.getUint16(at, true) };
}

/**
 * Descriptors in flight are available again: one that the last back-end had staged, and never
 * published, looks used to the driver as soon as it comes to it.
 */
function takeBack(flags: DescFlags, num: number, used: number, count: number): void {
  for (let i = 0; i < count; i++) {
    const position = moved(used, i, num);
    const index = indexOf(position);
    const others = flags.get(index) & ~(VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED);
    flags.set(index, others | availableMarks(position));
  }
}

/** Which entries are free, by the list from `first` on. Throws EINVAL for one that has a loop. */
function freeEntries(region: DataView, num: number, first: number): boolean[] {
  const isFree: boolean[] = new Array(num).fill(false);
  for (let entry = first; entry < num; ) {
    if (isFree[entry]) throw badRegion("its free entries form a loop", { entry });
    isFree[entry] = true;
    entry = region.getUint16(entryAt(entry) + INFLIGHT_PACKED_DESC_NEXT, true);
  }
  return isFree;
}

/** The list that begins at `index`, whose entries are taken. Throws EINVAL for one that is none. */
function listAt(region: DataView, num: number, index: number, isTaken: boolean[]): List {
  const at = entryAt(index);
  const count = region.getUint16(at + INFLIGHT_PACKED_DESC_NUM, true);
  const last = region.getUint16(at + INFLIGHT_PACKED_DESC_LAST, true);
  const entries: number[] = [];
  for (let entry = index; entries.length < count; ) {
    if (entry >= num || isTaken[entry]) throw badRegion("a list has a foreign entry", { entry });
    isTaken[entry] = true;
    entries.push(entry);
    entry = region.getUint16(entryAt(entry) + INFLIGHT_PACKED_DESC_NEXT, true);
  }
  if (entries.at(-1) !== last) throw badRegion("a list does not end where it says", { index });
  return { index, counter: region.getBigUint64(at + INFLIGHT_DESC_COUNTER, true), entries };
}

function listsInFlight(region: DataView, num: number, first: number): List[] {
  const isTaken = freeEntries(region, num, first);
  const isFree = [...isTaken];
  const lists: List[] = [];
  for (let index = 0; index < num; index++) {
    if (isFree[index] || region.getUint8(entryAt(index)) === 0) continue;
    lists.push(listAt(region, num, index, isTaken));
  }
  return byCounter(lists);
}

/** The lists' descriptors one behind the other, as `VQ_RESUBMIT` wants them. */
function descriptorsOf(region: DataView, lists: readonly List[]): Uint8Array<ArrayBuffer> {
  const total = lists.reduce((sum, { entries }) => sum + entries.length, 0);
  const view = new DataView(new ArrayBuffer(total * VIRTQ_DESC_BYTES));
  const marks = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED | VIRTQ_DESC_F_NEXT;
  let at = 0;
  for (const { entries } of lists) {
    for (const [i, entry] of entries.entries()) {
      const from = entryAt(entry);
      const next = i < entries.length - 1 ? VIRTQ_DESC_F_NEXT : 0;
      const flags = region.getUint16(from + INFLIGHT_PACKED_DESC_FLAGS, true) & ~marks;
      view.setBigUint64(at, region.getBigUint64(from + INFLIGHT_PACKED_DESC_ADDR, true), true);
      const length = region.getUint32(from + INFLIGHT_PACKED_DESC_LEN, true);
      view.setUint32(at + VIRTQ_DESC_LEN, length, true);
      const id = region.getUint16(from + INFLIGHT_PACKED_DESC_ID, true);
      view.setUint16(at + PVIRTQ_DESC_ID, id, true);
      view.setUint16(at + PVIRTQ_DESC_FLAGS, flags | next | VIRTQ_DESC_F_AVAIL, true);
      at += VIRTQ_DESC_BYTES;
    }
  }
  return new Uint8Array(view.buffer);
}

/**
 * The free list over all entries that no list has, in our table and in the region: its head. First
 * they are no longer in flight: whatever becomes of their links after that, they stay free.
 */
function linkFree(shared: DataView, table: DataView, num: number, lists: readonly List[]): number {
  const taken = new Set(lists.flatMap(({ entries }) => entries));
  const free = [...new Array(num).keys()].filter((entry) => !taken.has(entry));
  for (const entry of free) shared.setUint8(entryAt(entry), 0);
  let head = num;
  for (const entry of free.reverse()) {
    shared.setUint16(entryAt(entry) + INFLIGHT_PACKED_DESC_NEXT, head, true);
    table.setUint16(entry * INFLIGHT_ENTRY_BYTES + INFLIGHT_ENTRY_NEXT, head, true);
    head = entry;
  }
  shared.setUint16(INFLIGHT_PACKED_FREE_HEAD, head, true);
  shared.setUint16(INFLIGHT_PACKED_OLD_FREE_HEAD, head, true);
  return head;
}

/** The lists in our table, the oldest first, so that of equal ids the newest is found first. */
function linkLists(region: DataView, table: DataView, num: number, lists: readonly List[]): void {
  for (const { index, entries } of lists) {
    const at = index * INFLIGHT_ENTRY_BYTES;
    const last = entries.at(-1) as number;
    for (const [i, entry] of entries.slice(1).entries()) {
      const before = (entries[i] as number) * INFLIGHT_ENTRY_BYTES;
      table.setUint16(before + INFLIGHT_ENTRY_NEXT, entry, true);
    }
    const id = region.getUint16(entryAt(last) + INFLIGHT_PACKED_DESC_ID, true);
    const word = num * INFLIGHT_ENTRY_BYTES + id * 2;
    table.setUint16(at + INFLIGHT_ENTRY_LAST, last, true);
    table.setUint16(at + INFLIGHT_ENTRY_COUNT, entries.length, true);
    table.setUint16(at + INFLIGHT_ENTRY_OLDER, table.getUint16(word, true), true);
    table.setUint16(word, index + 1, true);
  }
}

/**
 * Where a packed ring goes on, by its region of the in-flight area, which may hold anything, and by
 * the flags of the ring's descriptors. Side effects: descriptors in flight are marked available,
 * and the region is mended, in an order that may end anywhere; or begun when it was never written:
 * then the ring goes on at `position`. Throws EINVAL with nothing changed: the region says what
 * can't be. vhost-user, section "Inflight I/O tracking".
 */
export function recoverPacked(
  shared: DataView,
  num: number,
  flags: DescFlags,
  position: number,
): Recovery {
  const region = snapshot(shared);
  const isOld = isWritten(region, num);
  const { used, free } = isOld ? settle(region, num, flags) : { used: position >>> 16, free: num };
  const lists = isOld ? listsInFlight(region, num, free) : [];
  const resubmit = descriptorsOf(region, lists);
  const resubmitCount = resubmit.length / VIRTQ_DESC_BYTES;
  takeBack(flags, num, used, resubmitCount);
  const table = new DataView(new ArrayBuffer(num * INFLIGHT_ENTRY_BYTES + IDS * 2));
  const head = linkFree(shared, table, num, lists);
  linkLists(region, table, num, lists);
  writePosition(shared, used);
  signRegion(shared, num);
  const avail = moved(used, resubmitCount, num);
  return {
    position: isOld ? avail + used * 0x1_0000 : position,
    resubmit,
    resubmitCount,
    table: new Uint8Array(table.buffer),
    counter: counterAfter(lists.at(-1)),
    head,
  };
}
