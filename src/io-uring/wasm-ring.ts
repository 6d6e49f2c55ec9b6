import type { ApplicationRing, KernelRing } from "./ring.js";

/** The module's functions for io_uring, as assembly/index.ts exports them; a u32 comes signed. */
export interface IouModule {
  iouReset(iou: number): void;
  iouGetSqe(iou: number): number;
  iouSubmit(iou: number): number;
  iouPeekCqes(iou: number, max: number): number;
  iouAdvance(iou: number, count: number): void;
  iouKernelReset(iou: number): void;
  iouTakeSqes(iou: number, max: number): number;
  iouPostCqes(iou: number, count: number): number;
  iouLoseCqes(iou: number, count: number): void;
  iouSetSqFlags(iou: number, flags: number): void;
}

/** The application's half in WebAssembly; see `ApplicationRing`. Throws nothing. */
export class WasmApplicationRing implements ApplicationRing {
  readonly iou: number;
  readonly #module: IouModule;

  /** `iou`: address of a state block in the memory that `module` was instantiated over. */
  constructor(module: IouModule, iou: number) {
    this.#module = module;
    this.iou = iou;
  }

  reset(): void {
    this.#module.iouReset(this.iou);
  }

  getSqe(): number {
    return this.#module.iouGetSqe(this.iou) >>> 0;
  }

  submit(): number {
    return this.#module.iouSubmit(this.iou);
  }

  peekCqes(max: number): number {
    return this.#module.iouPeekCqes(this.iou, max);
  }

  advance(count: number): void {
    this.#module.iouAdvance(this.iou, count);
  }
}

/** The kernel's half in WebAssembly; see `KernelRing`. Throws nothing. */
export class WasmKernelRing implements KernelRing {
  readonly iou: number;
  readonly #module: IouModule;

  /** `iou`: address of a state block in the memory that `module` was instantiated over. */
  constructor(module: IouModule, iou: number) {
    this.#module = module;
    this.iou = iou;
  }

  reset(): void {
    this.#module.iouKernelReset(this.iou);
  }

  takeSqes(max: number): number {
    return this.#module.iouTakeSqes(this.iou, max);
  }

  postCqes(count: number): number {
    return this.#module.iouPostCqes(this.iou, count);
  }

  loseCqes(count: number): void {
    this.#module.iouLoseCqes(this.iou, count);
  }

  setSqFlags(flags: number): void {
    this.#module.iouSetSqFlags(this.iou, flags);
  }
}
