import { instantiate, type RingKind } from "../ring/load.js";
import type { ApplicationRing, KernelRing } from "./ring.js";
import { TsApplicationRing } from "./ts-application-ring.js";
import { TsKernelRing } from "./ts-kernel-ring.js";
import { type IouModule, WasmApplicationRing, WasmKernelRing } from "./wasm-ring.js";

/** Makes io_uring's rings over one memory; the state blocks are laid out (`state-block.ts`). */
export interface IouRings {
  /** The application's half over the state block at `iou`. */
  application(iou: number): ApplicationRing;
  /** The kernel's half over the state block at `iou`. */
  kernel(iou: number): KernelRing;
}

/** Rings of `kind` over `memory`, for the thread that calls. */
export function loadIouRings(memory: WebAssembly.Memory, kind: RingKind = "wasm"): IouRings {
  if (kind === "ts") {
    return {
      application: (iou) => new TsApplicationRing(memory, iou),
      kernel: (iou) => new TsKernelRing(memory, iou),
    };
  }
  const module = instantiate(memory) as unknown as IouModule;
  return {
    application: (iou) => new WasmApplicationRing(module, iou),
    kernel: (iou) => new WasmKernelRing(module, iou),
  };
}
