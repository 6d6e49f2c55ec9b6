// One case from one seed, in the rings asked for; with both, they are held to one another.

import { loadRings, type RingKind, type Rings } from "#dist/ring/load.js";
import { RingTables } from "#dist/ring/tables.js";
import { runDevice } from "./device-case.js";
import { runDriver } from "./driver-case.js";
import { Field, must } from "./field.js";
import { LARGE_BYTES, makeLayout, SMALL_BYTES } from "./layout.js";
import { Random } from "./random.js";
import { addRecord, recordRoom } from "./record.js";

/** Makes rings over a memory. */
export type RingMaker = (memory: WebAssembly.Memory, kind: RingKind) => Rings;

/** Times that each error was met, by name. */
export type ErrorCounts = Record<string, number>;

interface Place {
  field: Field;
  rings: Rings;
}

/** One case in so many has a large ring. */
const LARGE_ONCE_IN = 256;

/** Runs cases; each ring has memories of its own, used again and again. */
export class CaseRunner {
  readonly #kinds: readonly RingKind[];
  readonly #makeRings: RingMaker;
  readonly #places = new Map<string, Place>();
  /** Errors met so far. */
  readonly errors: ErrorCounts = {};

  constructor(kinds: readonly RingKind[], makeRings: RingMaker = loadRings) {
    this.#kinds = kinds;
    this.#makeRings = makeRings;
  }

  #place(kind: RingKind, bytes: number): Place {
    const name = `${kind} ${bytes}`;
    let place = this.#places.get(name);
    if (!place) {
      const field = new Field(bytes);
      place = { field, rings: this.#makeRings(field.memory, kind) };
      this.#places.set(name, place);
    }
    return place;
  }

  #runOne(seed: number, kind: RingKind): { field: Field; answers: number[] } {
    const random = new Random(seed);
    const bytes = random.once(LARGE_ONCE_IN) ? LARGE_BYTES : SMALL_BYTES;
    const layout = makeLayout(random, random.once(3) ? "driver" : "device", bytes);
    const room = addRecord(layout, seed, bytes) ? recordRoom(bytes) : 0;
    const { field, rings } = this.#place(kind, bytes + room);
    field.setUp(layout, random);
    const answers =
      layout.side === "device"
        ? runDevice(field, rings.device(layout.vq), random)
        : runDriver(field, rings.driver(layout.vq), random);
    return { field, answers };
  }

  /** Runs the case of a seed (u32). Throws a `Violation`, or what a ring throws. */
  run(seed: number): void {
    const done = this.#kinds.map((kind) => this.#runOne(seed, kind));
    const [first, second] = done;
    if (!first) return;
    const { memory, layout } = first.field;
    const counts = new RingTables(memory, layout.vq).errorCounts();
    for (const [name, count] of Object.entries(counts)) {
      this.errors[name] = (this.errors[name] ?? 0) + count;
    }
    if (!second) return;
    must(`${first.answers}` === `${second.answers}`, "the rings' answers differ");
    first.field.compareTwin(second.field);
  }
}
