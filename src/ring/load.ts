import { readFileSync } from "node:fs";
import { instantiateSync } from "@assemblyscript/loader";
import { VQ_F_PACKED, VQ_FLAGS } from "../spec/ring-state.js";
import type { DeviceRing, DriverRing } from "./ring.js";
import { TsPackedDevice } from "./ts-packed-device.js";
import { TsPackedDriver } from "./ts-packed-driver.js";
import { TsSplitDevice } from "./ts-split-device.js";
import { TsSplitDriver } from "./ts-split-driver.js";
import { WasmPackedDevice, WasmPackedDriver } from "./wasm-packed-ring.js";
import { type RingModule, WasmSplitDevice, WasmSplitDriver } from "./wasm-ring.js";

/** Which of the two implementations: they give the same answers and leave the same bytes. */
export type RingKind = "wasm" | "ts";

/**
 * Makes rings over one memory, split or packed as VQ_FLAGS say. The state blocks are laid out by
 * the caller (`state-block.ts`).
 */
export interface Rings {
  /** The driver's half over the state block at `vq`. */
  driver(vq: number): DriverRing;
  /** The device's half over the state block at `vq`. */
  device(vq: number): DeviceRing;
}

/** Compiled once a thread. */
const compiled = new Map<string, WebAssembly.Module>();

function compile(target: "shared" | "unshared"): WebAssembly.Module {
  let module = compiled.get(target);
  if (!module) {
    const bytes = readFileSync(new URL(`../wasm/${target}.wasm`, import.meta.url));
    module = new WebAssembly.Module(bytes);
    compiled.set(target, module);
  }
  return module;
}

/** One a memory and thread: it has no state of its own. */
const instances = new WeakMap<WebAssembly.Memory, RingModule>();

/**
 * The thread's instance of the ring module over `memory`, of the target that fits it (shared or
 * not). Other threads have theirs. Throws what WebAssembly throws for a foreign object.
 */
export function instantiate(memory: WebAssembly.Memory): RingModule {
  const known = instances.get(memory);
  if (known) return known;
  const target = memory.buffer instanceof SharedArrayBuffer ? "shared" : "unshared";
  const { instance } = instantiateSync(compile(target), { env: { memory } });
  // Not the loader's `exports`: those are wrapped, and a copy made of them is a slow object.
  const module = instance.exports as unknown as RingModule;
  instances.set(memory, module);
  return module;
}

/** Rings of `kind` over `memory`, for the thread that calls. */
export function loadRings(memory: WebAssembly.Memory, kind: RingKind = "wasm"): Rings {
  const words = new Uint32Array(memory.buffer);
  const isPacked = (vq: number) => ((words[(vq + VQ_FLAGS) >>> 2] ?? 0) & VQ_F_PACKED) !== 0;
  if (kind === "ts") {
    return {
      driver: (vq) => new (isPacked(vq) ? TsPackedDriver : TsSplitDriver)(memory, vq),
      device: (vq) => new (isPacked(vq) ? TsPackedDevice : TsSplitDevice)(memory, vq),
    };
  }
  const module = instantiate(memory);
  return {
    driver: (vq) =>
      isPacked(vq) ? new WasmPackedDriver(module, vq) : new WasmSplitDriver(module, vq),
    device: (vq) =>
      isPacked(vq) ? new WasmPackedDevice(module, vq) : new WasmSplitDevice(module, vq),
  };
}
