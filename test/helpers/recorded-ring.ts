// Rings whose every access to memory is written down, in the order in which they make it: what it
// is at, how wide, what value, and whether it is atomic. The WebAssembly module is instrumented (a
// call before each load and store of its code), the TypeScript rings get arrays that look.

import { readFileSync } from "node:fs";
import binaryen from "assemblyscript/binaryen";
import { loadRings, type RingKind, type Rings } from "#dist/ring/load.js";
import { WasmPackedDevice, WasmPackedDriver } from "#dist/ring/wasm-packed-ring.js";
import { type RingModule, WasmSplitDevice, WasmSplitDriver } from "#dist/ring/wasm-ring.js";
import { VQ_F_PACKED, VQ_FLAGS } from "#dist/spec/ring-state.js";

/** One load or store. Addresses are linear. */
export interface Access {
  op: "load" | "store";
  at: number;
  bytes: number;
  /** Unsigned; a bigint where it is wider than four bytes. */
  value: number | bigint;
  isAtomic: boolean;
}

/** The accesses of the rings of one memory since the last `clear`, the first one first. */
export class Trace {
  readonly all: Access[] = [];

  clear(): void {
    this.all.length = 0;
  }

  /** Those of one kind that touch any of [at, at + bytes). */
  of(op: Access["op"], at: number, bytes: number): Access[] {
    return this.all.filter(
      (one) => one.op === op && one.at < at + bytes && at < one.at + one.bytes,
    );
  }

  /** Stores to any of [at, at + bytes). */
  stores(at: number, bytes: number): Access[] {
    return this.of("store", at, bytes);
  }

  /** Loads of any of [at, at + bytes). */
  loads(at: number, bytes: number): Access[] {
    return this.of("load", at, bytes);
  }

  /** What `work` adds, and what it answers. */
  during<T>(work: () => T): { answer: T; trace: Trace } {
    const from = this.all.length;
    const answer = work();
    const trace = new Trace();
    trace.all.push(...this.all.slice(from));
    return { answer, trace };
  }
}

/** Rings of `kind` over `memory`, and what they do to it. */
export function recordRings(
  memory: WebAssembly.Memory,
  kind: RingKind,
): { rings: Rings; trace: Trace } {
  const trace = new Trace();
  return { trace, rings: kind === "wasm" ? recordWasm(memory, trace) : recordTs(memory, trace) };
}

// ── WebAssembly ─────────────────────────────────────────────────────────────────────────────────

interface Instrumented {
  module: WebAssembly.Module;
  /** Numbers of the accesses that are atomic. */
  atomic: Set<number>;
}

const instrumented = new Map<string, Instrumented>();

function instrument(target: "shared" | "unshared"): Instrumented {
  const known = instrumented.get(target);
  if (known) return known;
  const path = new URL(`../../dist/wasm/${target}.wasm`, import.meta.url);
  const code = binaryen.readBinary(readFileSync(path));
  const { Atomics: threads, BulkMemory, MutableGlobals, SignExt } = binaryen.Features;
  code.setFeatures(threads | BulkMemory | MutableGlobals | SignExt);
  code.runPasses(["instrument-memory"]);
  const atomics = /\.atomic\.[^\n]*\n\s*\(call \$(?:load|store)_ptr\n\s*\(i32\.const (\d+)\)/g;
  const made = {
    module: new WebAssembly.Module(code.emitBinary() as Uint8Array<ArrayBuffer>),
    atomic: new Set([...code.emitText().matchAll(atomics)].map(([, id]) => Number(id))),
  };
  code.dispose();
  instrumented.set(target, made);
  return made;
}

function recordWasm(memory: WebAssembly.Memory, trace: Trace): Rings {
  const isShared = memory.buffer instanceof SharedArrayBuffer;
  const { module, atomic } = instrument(isShared ? "shared" : "unshared");
  const places = new Map<number, { at: number; bytes: number }>();
  const ptr = (id: number, bytes: number, offset: number, base: number) => {
    places.set(id, { at: (base >>> 0) + (offset >>> 0), bytes });
    return base;
  };
  const val =
    (op: Access["op"]) =>
    <T extends number | bigint>(id: number, raw: T): T => {
      const place = places.get(id) ?? { at: 0, bytes: 0 };
      const value =
        typeof raw === "bigint" ? BigInt.asUintN(64, raw) : (raw & mask(place.bytes)) >>> 0;
      trace.all.push({ op, ...place, value, isAtomic: atomic.has(id) });
      return raw;
    };
  const other = () => {
    throw new Error("an access of a kind that rings do not make");
  };
  const env = {
    memory,
    load_ptr: ptr,
    load_val_i32: val("load"),
    load_val_i64: val("load"),
    store_ptr: ptr,
    store_val_i32: val("store"),
    store_val_i64: val("store"),
    load_val_f32: other,
    load_val_f64: other,
    store_val_f32: other,
    store_val_f64: other,
    memory_grow_pre: other,
    memory_grow_post: other,
  };
  const { exports } = new WebAssembly.Instance(module, { env });
  const ring = exports as unknown as RingModule;
  const view = new DataView(memory.buffer);
  const isPacked = (vq: number) => (view.getUint32(vq + VQ_FLAGS, true) & VQ_F_PACKED) !== 0;
  return {
    driver: (vq) => new (isPacked(vq) ? WasmPackedDriver : WasmSplitDriver)(ring, vq),
    device: (vq) => new (isPacked(vq) ? WasmPackedDevice : WasmSplitDevice)(ring, vq),
  };
}

const mask = (bytes: number) => (bytes >= 4 ? 0xffff_ffff : 2 ** (8 * bytes) - 1);

// ── TypeScript ──────────────────────────────────────────────────────────────────────────────────

type Words = Uint8Array | Uint16Array | Uint32Array | Int32Array;

interface Watched {
  words: Words;
  trace: Trace;
}

/** The arrays that look, by what stands for them. */
const watched = new WeakMap<object, Watched>();

function note(op: Access["op"], { words, trace }: Watched, index: number, isAtomic: boolean) {
  const bytes = words.BYTES_PER_ELEMENT;
  const value = ((words[index] ?? 0) & mask(bytes)) >>> 0;
  trace.all.push({ op, at: words.byteOffset + index * bytes, bytes, value, isAtomic });
}

function watch(words: Words, trace: Trace): Words {
  const one = { words, trace };
  const stand: Words = new Proxy(words, {
    get(target, key) {
      const index = typeof key === "string" ? Number(key) : Number.NaN;
      if (Number.isInteger(index)) {
        if (index >= 0 && index < target.length) note("load", one, index, false);
        return target[index];
      }
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
    set(target, key, value: number) {
      const index = Number(String(key));
      target[index] = value;
      if (index < target.length) note("store", one, index, false);
      return true;
    },
  });
  watched.set(stand, one);
  return stand;
}

// Typed arrays that look are no typed arrays to `Atomics`.
const { load, store } = Atomics;
Atomics.load = ((array: object, index: number) => {
  const one = watched.get(array);
  if (!one) return load(array as Words, index);
  note("load", one, index, true);
  return load(one.words, index);
}) as typeof Atomics.load;
Atomics.store = ((array: object, index: number, value: number) => {
  const one = watched.get(array);
  if (!one) return store(array as Words, index, value);
  const answer = store(one.words, index, value);
  note("store", one, index, true);
  return answer;
}) as typeof Atomics.store;

const GLOBALS = ["Uint8Array", "Uint16Array", "Uint32Array", "Int32Array"] as const;

/** Makes something while every array over `memory` that is made is one that looks. */
function making<T>(memory: WebAssembly.Memory, trace: Trace, make: () => T): T {
  const scope = globalThis as unknown as Record<string, new (...args: unknown[]) => Words>;
  const real = GLOBALS.map((name) => scope[name] as new (...args: unknown[]) => Words);
  for (const [i, name] of GLOBALS.entries()) {
    scope[name] = new Proxy(real[i] as new (...args: unknown[]) => Words, {
      construct(target, args: unknown[]) {
        const words = new target(...args);
        return args[0] === memory.buffer ? watch(words, trace) : words;
      },
    });
  }
  try {
    return make();
  } finally {
    for (const [i, name] of GLOBALS.entries()) scope[name] = real[i] as never;
  }
}

function recordTs(memory: WebAssembly.Memory, trace: Trace): Rings {
  const rings = loadRings(memory, "ts");
  return {
    driver: (vq) => making(memory, trace, () => rings.driver(vq)),
    device: (vq) => making(memory, trace, () => rings.device(vq)),
  };
}
