import type { PackedDeviceRing, PackedDriverRing } from "./packed-ring.js";
import type { RingModule } from "./wasm-ring.js";

/** The driver's half of a packed ring in WebAssembly; see `PackedDriverRing`. Throws nothing. */
export class WasmPackedDriver implements PackedDriverRing {
  readonly vq: number;
  readonly #module: RingModule;

  /** `vq`: address of a state block in the memory that `module` was instantiated over. */
  constructor(module: RingModule, vq: number) {
    this.#module = module;
    this.vq = vq;
  }

  reset(): void {
    this.#module.packedDriverReset(this.vq);
  }

  addBufs(count: number): number {
    return this.#module.packedAddBufs(this.vq, count);
  }

  publish(): void {
    this.#module.packedDriverPublish(this.vq);
  }

  kickNeeded(): boolean {
    return this.#module.packedKickNeeded(this.vq) !== 0;
  }

  getBufs(max: number): number {
    return this.#module.packedGetBufs(this.vq, max);
  }

  enableCall(): boolean {
    return this.#module.packedEnableCall(this.vq) !== 0;
  }

  disableCall(): void {
    this.#module.packedDisableCall(this.vq);
  }
}

/** The device's half of a packed ring in WebAssembly; see `PackedDeviceRing`. Throws nothing. */
export class WasmPackedDevice implements PackedDeviceRing {
  readonly vq: number;
  readonly #module: RingModule;

  /** `vq`: address of a state block in the memory that `module` was instantiated over. */
  constructor(module: RingModule, vq: number) {
    this.#module = module;
    this.vq = vq;
  }

  start(position: number): number {
    return this.#module.packedDeviceStart(this.vq, position);
  }

  getDescs(max: number): number {
    return this.#module.packedGetDescs(this.vq, max);
  }

  addUsed(head: number, usedBytes: number): number {
    return this.#module.packedAddUsed(this.vq, head, usedBytes);
  }

  addUsedN(count: number): number {
    return this.#module.packedAddUsedN(this.vq, count);
  }

  publish(): void {
    this.#module.packedDevicePublish(this.vq);
  }

  callNeeded(): boolean {
    return this.#module.packedCallNeeded(this.vq) !== 0;
  }

  enableKick(): boolean {
    return this.#module.packedEnableKick(this.vq) !== 0;
  }

  disableKick(): void {
    this.#module.packedDisableKick(this.vq);
  }

  availLen(): number {
    return this.#module.packedAvailLen(this.vq);
  }

  kicked(position: number): number {
    return this.#module.packedKicked(this.vq, position);
  }
}
