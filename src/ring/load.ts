import { readFileSync } from "node:fs";
import { instantiateSync } from "@assemblyscript/loader";
import type { DeviceRing, DriverRing } from "./ring.js";
import { TsPackedDevice } from "./ts-packed-device.js";
import { TsPackedDriver } from "./ts-packed-driver.js";
import { TsSplitDevice } from "./ts-split-device.js";
import { TsSplitDriver } from "./ts-split-driver.js";
import { type RingModule, WasmSplitDevice, WasmSplitDriver } from "./wasm-ring.js";

/** Which of the two implementations: they give the same answers and leave the same bytes. */
export type RingKind = "wasm" | "ts";

/** How a queue lies in memory, as was negotiated (VIRTIO_F_RING_PACKED). */
export type RingFormat = "split" | "packed";

/** Makes rings over one memory. The state blocks are laid out by the caller (`memory/vring.ts`). */
export interface Rings {
  /** The driver's half over the state block at `vq`; split, unless said otherwise. */
  driver(vq: number, format?: RingFormat): DriverRing;
  /** The device's half over the state block at `vq`; split, unless said otherwise. */
  device(vq: number, format?: RingFormat): DeviceRing;
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

/**
 * An instance of the ring module over `memory`, of the target that fits it (shared or not). Any
 * number of instances may work on one memory. Throws what WebAssembly throws for a foreign object.
 */
export function instantiate(memory: WebAssembly.Memory): RingModule {
  const target = memory.buffer instanceof SharedArrayBuffer ? "shared" : "unshared";
  const { instance } = instantiateSync(compile(target), { env: { memory } });
  // Not the loader's `exports`: those are wrapped, and a copy made of them is a slow object.
  return instance.exports as unknown as RingModule;
}

/** Rings of `kind` over `memory`, for the thread that calls. */
export function loadRings(memory: WebAssembly.Memory, kind: RingKind = "wasm"): Rings {
  if (kind === "ts") {
    return {
      driver: (vq, format) =>
        new (format === "packed" ? TsPackedDriver : TsSplitDriver)(memory, vq),
      device: (vq, format) =>
        new (format === "packed" ? TsPackedDevice : TsSplitDevice)(memory, vq),
    };
  }
  const module = instantiate(memory);
  return {
    driver: (vq, format) => new WasmSplitDriver(module, split(vq, format)),
    device: (vq, format) => new WasmSplitDevice(module, split(vq, format)),
  };
}

/** The module has no packed rings. */
function split(vq: number, format: RingFormat = "split"): number {
  if (format !== "split") throw new RangeError(`no ${format} ring in the module`);
  return vq;
}
