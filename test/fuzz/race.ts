// The device's side while a second thread rewrites descriptors, indices and tables: what was
// checked must be what is used. Nothing is known of what comes; what holds always is looked at.

import { Worker } from "node:worker_threads";
import type { RingKind, Rings } from "#dist/ring/load.js";
import { RingTables } from "#dist/ring/tables.js";
import type { ErrorCounts, RingMaker } from "./case.js";
import { DeviceCase } from "./device-case.js";
import { Field } from "./field.js";
import { Grammar } from "./grammar.js";
import { makeLayout, SMALL_BYTES } from "./layout.js";
import { Random } from "./random.js";
import { addRecord, RecordModel, recordRoom } from "./record.js";

/** Words of the cell that both threads see. */
export const CELL = { phase: 0, seed: 1, writes: 2 } as const;
/** What `CELL.phase` may be. */
export const PHASE = { idle: 0, race: 1, stop: 2, end: 3 } as const;

/** What the second thread gets. */
export interface RacerData {
  memory: WebAssembly.Memory;
  cell: Int32Array;
}

/** Times that the device pops in one case. */
const POPS = 400;

/** A field with the layout of a seed, its ring filled: the same in both threads. */
export function setUpRace(field: Field, seed: number): { random: Random; grammar: Grammar } {
  const random = new Random(seed);
  const layout = makeLayout(random, "device", SMALL_BYTES);
  addRecord(layout, seed, SMALL_BYTES);
  field.setUp(layout, random);
  const grammar = new Grammar(field, random);
  return { random, grammar };
}

/** Races, one case after another. */
export class Race {
  readonly #field = new Field(SMALL_BYTES + recordRoom(SMALL_BYTES));
  readonly #rings = new Map<RingKind, Rings>();
  readonly #kinds: readonly RingKind[];
  readonly #cell = new Int32Array(new SharedArrayBuffer(12));
  readonly #racer: Worker;
  /** Errors met so far. */
  readonly errors: ErrorCounts = {};

  constructor(kinds: readonly RingKind[], makeRings: RingMaker) {
    this.#kinds = kinds;
    for (const kind of kinds) this.#rings.set(kind, makeRings(this.#field.memory, kind));
    const workerData: RacerData = { memory: this.#field.memory, cell: this.#cell };
    this.#racer = new Worker(new URL("racer.js", import.meta.url), { workerData });
  }

  /** Writes that the second thread made in the last case. */
  get writes(): number {
    return Atomics.load(this.#cell, CELL.writes);
  }

  #to(phase: number, from: number): void {
    Atomics.store(this.#cell, CELL.phase, phase);
    Atomics.notify(this.#cell, CELL.phase);
    while (Atomics.load(this.#cell, CELL.phase) === phase) {
      Atomics.wait(this.#cell, CELL.phase, phase, 1000);
    }
    if (Atomics.load(this.#cell, CELL.phase) !== from) throw new Error("the racer is lost");
  }

  /** The case of a seed. Throws a `Violation`, or what a ring throws. */
  run(seed: number): void {
    for (const kind of this.#kinds) this.#runOne(seed, kind);
  }

  #runOne(seed: number, kind: RingKind): void {
    const field = this.#field;
    const { random, grammar } = setUpRace(field, seed);
    const { vq, isPacked, regions } = field.layout;
    const ring = (this.#rings.get(kind) as Rings).device(vq);
    new RecordModel(field).prepare(random, 0);
    if (isPacked) ring.start(0x8000_8000);
    else ring.start(0);
    grammar.offer();
    field.guard(regions.map(({ linear, bytes }) => ({ start: linear, bytes })));
    field.remember();
    const one = new DeviceCase(field, ring);
    Atomics.store(this.#cell, CELL.seed, seed | 0);
    Atomics.store(this.#cell, CELL.writes, 0);
    Atomics.store(this.#cell, CELL.phase, PHASE.race);
    Atomics.notify(this.#cell, CELL.phase);
    try {
      while (this.writes === 0) Atomics.wait(this.#cell, CELL.writes, 0, 1);
      for (let i = 0; i < POPS; i++) {
        one.raceStep(random);
        one.answers.length = 0;
      }
    } finally {
      this.#to(PHASE.stop, PHASE.idle);
    }
    field.compare();
    const counts = new RingTables(field.memory, vq).errorCounts();
    for (const [name, count] of Object.entries(counts)) {
      this.errors[name] = (this.errors[name] ?? 0) + count;
    }
  }

  /** Ends the second thread. */
  async close(): Promise<void> {
    Atomics.store(this.#cell, CELL.phase, PHASE.end);
    Atomics.notify(this.#cell, CELL.phase);
    await this.#racer.terminate();
  }
}
