// The second thread of a race: rewrites one queue's ring, its tables and its headers as fast as it
// can, with what is good, what is bad, and halves of both. Nothing is known of what the device sees.
import { workerData } from "node:worker_threads";

const { memory, cell, seed, packed, num, areas, room, places, regions, buffers } = workerData;
const u8 = new Uint8Array(memory.buffer);
const u16 = new Uint16Array(memory.buffer);
const u32 = new Uint32Array(memory.buffer);
const view = new DataView(memory.buffer);

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const AVAIL = 0x80;
const USED = 0x8000;
const LENGTHS = [0, 1, 16, 512, 512, 512, 1024, 513];
const WILD_LENGTHS = [4096, 0x10010, 0xffff_fff0, 0xffff_ffff];
const TYPES = [0, 0, 0, 1, 4, 8, 11, 13, 99];
const TOP = 1n << 64n;

let state = seed | 1;
function random(below) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}
const pick = (all) => all[random(all.length)];

/** An address: mostly in a region, at its ends too, now and then in the rings, or nowhere. */
function address() {
  if (random(16) === 0) return pick([0n, TOP - 1n, BigInt(areas.desc.address), ...places]);
  const { guest, bytes } = random(64) === 0 ? regions[0] : pick(buffers);
  return random(4) === 0 ? guest + BigInt(bytes - random(600)) : guest + BigInt(random(bytes));
}

const length = () => pick(random(24) === 0 ? WILD_LENGTHS : LENGTHS);

/** Fields of a descriptor anywhere in memory; `tail` gives its last two words of 16 bits. */
function writeDesc(at, addr, len, tail) {
  if (random(3) > 0) view.setBigUint64(at, BigInt.asUintN(64, addr), true);
  if (random(3) > 0) view.setUint32(at + 8, len, true);
  const [third, fourth] = tail;
  if (packed) u16[(at + 12) >>> 1] = third;
  Atomics.store(u16, (at + 14) >>> 1, fourth);
  if (!packed) Atomics.store(u16, (at + 12) >>> 1, third);
}

/** The lap that descriptors of a packed ring are available in, mostly; it changes now and then. */
let lap = AVAIL;
const marks = () => (random(64) === 0 ? pick([0, AVAIL, USED, AVAIL | USED]) : lap);
/** `next` and flags of a split ring, id and flags of a packed one. */
const tail = (flags, next) => (packed ? [random(num), flags | marks()] : [flags, next]);

/** Where chains begin: mostly at every fourth descriptor, so that heads are heads. */
const start = () => (packed || random(8) === 0 ? random(num) : 4 * random(num >> 2));

/** A header that asks for something, at the start of the room. */
function header(slot) {
  const at = room.address + slot * 16;
  u32[at >>> 2] = pick(TYPES);
  u32[(at + 8) >>> 2] = random(8) === 0 ? 0xffff_ffff : random(160);
  u32[(at + 12) >>> 2] = random(32) === 0 ? 0xffff_ffff : 0;
}

const flagsOf = (i, count) =>
  (i === 0 ? 0 : WRITE) | (i < count - 1 ? NEXT : 0) | (random(40) === 0 ? 1 << random(16) : 0);

/** Descriptors from `at` on that are almost a request; in a ring of `size`, or a table. */
function chain(at, first, size) {
  const count = 1 + random(4);
  for (let i = 0; i < count; i++) {
    const index = (first + i) % size;
    const isHeader = i === 0 && random(8) > 0;
    const to = isHeader ? room.guest + BigInt(16 * random(8)) : address();
    const len = isHeader ? 16 : i === count - 1 ? 1 : length();
    const next = random(24) === 0 ? random(0x1_0000) : (index + 1) % size;
    // A list that ends with the ring does not depend on the lap after it.
    const ends = packed && index === size - 1 && random(8) > 0 ? NEXT : 0;
    writeDesc(at + index * 16, to, len, tail(flagsOf(i, count) & ~ends, next));
  }
}

/** A descriptor that names a table, which lies in the room behind the headers. */
function table() {
  const index = random(4);
  const at = room.address + 256 + index * 256;
  chain(at, 0, 16);
  const odd = random(12) === 0 ? pick([8, 16, 0x10_0000]) : 0;
  const flags = INDIRECT | (random(16) === 0 ? NEXT : 0) | (random(16) === 0 ? WRITE : 0);
  const guest = random(16) === 0 ? address() : room.guest + 256n + BigInt(index * 256);
  const head = start();
  writeDesc(areas.desc.address + head * 16, guest, 16 * (1 + random(6)) + odd, tail(flags, 0));
}

/** Entries become available to a split ring; once in a while more than there can be. */
function moveIndex() {
  const avail = areas.driver.address;
  const slot = random(num);
  u16[(avail + 4 + slot * 2) >>> 1] = random(400) === 0 ? pick([num, 0xffff]) : start();
  const used = Atomics.load(u16, (areas.device.address + 2) >>> 1);
  const ahead = random(400) === 0 ? random(0x1_0000) : random(num + 1);
  Atomics.store(u16, (avail + 2) >>> 1, (used + ahead) & 0xffff);
  if (random(8) === 0) u16[(avail + 4 + num * 2) >>> 1] = random(0x1_0000);
}

/** Event structures, and the device's own areas. */
function meddle() {
  const { address: at, bytes } = pick([areas.driver, areas.device]);
  if (packed) u16[(at + 2 * random(2)) >>> 1] = random(0x1_0000);
  else if (random(512) === 0) u8[at + random(bytes)] = random(256);
}

for (let writes = 1; Atomics.load(cell, 0) === 0; writes++) {
  for (let i = 0; i < 32; i++) {
    header(random(8));
    if (random(3) === 0) table();
    else chain(areas.desc.address, start(), num);
    if (packed) meddle();
    else if (i % 4 === 0) moveIndex();
    else if (random(8) === 0) meddle();
  }
  if (random(4) === 0) lap ^= AVAIL | USED;
  Atomics.store(cell, 1, writes * 32);
}
