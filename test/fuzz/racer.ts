// The second thread of a race: rewrites what a driver may write, as fast as it can.

import { workerData } from "node:worker_threads";
import { Field } from "./field.js";
import { Grammar } from "./grammar.js";
import type { Extent } from "./layout.js";
import { makeLayout, SMALL_BYTES } from "./layout.js";
import { CELL, PHASE, type RacerData } from "./race.js";
import { Random } from "./random.js";

const { memory, cell } = workerData as RacerData;
const bytes = new Uint8Array(memory.buffer);
const view = new DataView(memory.buffer);
/** Two images of the same guest: what is copied comes from one or the other. */
const images = [new Field(SMALL_BYTES), new Field(SMALL_BYTES)] as const;
const LOOK_EVERY = 64;

/** Draws both images. @returns what is rewritten. */
function draw(seed: number): Extent[] {
  const hot: Extent[] = [];
  for (const [i, image] of images.entries()) {
    const first = new Random(seed);
    image.setUp(makeLayout(first, "device", SMALL_BYTES), first);
    const grammar = new Grammar(image, new Random(seed + i));
    if (image.layout.isPacked) image.setWord(48, i === 0 ? 0x8000 : 0);
    for (let n = 0; n < 3; n++) grammar.offer();
    grammar.mutate(i * 20);
    hot.push(...grammar.hot.filter((one) => one.bytes > 0));
  }
  return hot;
}

/** Available to a split ring: some more than were used, so that it goes on. */
function moveIndex(random: Random): void {
  const { num, driver, deviceArea, isPacked } = images[0].layout;
  if (isPacked) return;
  const used = view.getUint16(deviceArea.start + 2, true);
  const ahead = random.once(64) ? random.u32() : random.below(num + 1);
  view.setUint16(driver.start + 2, (used + ahead) & 0xffff, true);
}

function race(seed: number): void {
  const hot = draw(seed);
  const random = new Random(seed ^ 0x7ace);
  for (let writes = 1; Atomics.load(cell, CELL.phase) === PHASE.race; writes++) {
    for (let i = 0; i < LOOK_EVERY; i++) {
      const { start, bytes: length } = random.pick(hot);
      const size = random.pick([1, 2, 4, 16, 16, 16]);
      const at = Math.max(start, (start + random.below(length)) & -size);
      const end = Math.min(at + size, start + length);
      bytes.set(random.pick(images).bytes.subarray(at, end), at);
      if (i % 8 === 0) moveIndex(random);
    }
    Atomics.store(cell, CELL.writes, writes * LOOK_EVERY);
    if (writes === 1) Atomics.notify(cell, CELL.writes);
  }
}

for (;;) {
  const phase = Atomics.load(cell, CELL.phase);
  if (phase === PHASE.end) break;
  if (phase === PHASE.race) race(Atomics.load(cell, CELL.seed) >>> 0);
  else if (phase === PHASE.stop) {
    Atomics.store(cell, CELL.phase, PHASE.idle);
    Atomics.notify(cell, CELL.phase);
  } else Atomics.wait(cell, CELL.phase, phase);
}
