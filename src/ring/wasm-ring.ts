import type { CopyBytes } from "./copy-bytes.js";
import type { MovePackets } from "./packets.js";
import type { DeviceRing, DriverRing } from "./ring.js";

/** The module's functions, as assembly/index.ts exports them. A `bool` of the module is 0 or 1. */
export interface RingModule {
  driverReset(vq: number): void;
  addBufs(vq: number, count: number): number;
  driverPublish(vq: number): void;
  kickNeeded(vq: number): number;
  getBufs(vq: number, max: number): number;
  enableCall(vq: number): number;
  disableCall(vq: number): void;
  deviceStart(vq: number, lastAvail: number): void;
  getDescs(vq: number, max: number): number;
  addUsed(vq: number, head: number, usedBytes: number): number;
  addUsedN(vq: number, count: number): number;
  devicePublish(vq: number): void;
  callNeeded(vq: number): number;
  enableKick(vq: number): number;
  disableKick(vq: number): void;
  availLen(vq: number): number;
  kicked(vq: number, position: number): number;
  packedDriverReset(vq: number): void;
  packedAddBufs(vq: number, count: number): number;
  packedDriverPublish(vq: number): void;
  packedKickNeeded(vq: number): number;
  packedGetBufs(vq: number, max: number): number;
  packedEnableCall(vq: number): number;
  packedDisableCall(vq: number): void;
  packedDeviceStart(vq: number, position: number): number;
  packedGetDescs(vq: number, max: number): number;
  packedAddUsed(vq: number, head: number, usedBytes: number): number;
  packedAddUsedN(vq: number, count: number): number;
  packedDevicePublish(vq: number): void;
  packedCallNeeded(vq: number): number;
  packedEnableKick(vq: number): number;
  packedDisableKick(vq: number): void;
  packedAvailLen(vq: number): number;
  packedKicked(vq: number, position: number): number;
  checksumSum(address: number, bytes: number): number;
  copyBytes: CopyBytes;
  movePackets: MovePackets;
}

/** The driver's half in WebAssembly; see `DriverRing`. Throws nothing. */
export class WasmSplitDriver implements DriverRing {
  readonly vq: number;
  readonly #module: RingModule;

  /** `vq`: address of a state block in the memory that `module` was instantiated over. */
  constructor(module: RingModule, vq: number) {
    this.#module = module;
    this.vq = vq;
  }

  reset(): void {
    this.#module.driverReset(this.vq);
  }

  addBufs(count: number): number {
    return this.#module.addBufs(this.vq, count);
  }

  publish(): void {
    this.#module.driverPublish(this.vq);
  }

  kickNeeded(): boolean {
    return this.#module.kickNeeded(this.vq) !== 0;
  }

  getBufs(max: number): number {
    return this.#module.getBufs(this.vq, max);
  }

  enableCall(): boolean {
    return this.#module.enableCall(this.vq) !== 0;
  }

  disableCall(): void {
    this.#module.disableCall(this.vq);
  }
}

/** The device's half in WebAssembly; see `DeviceRing`. Throws nothing. */
export class WasmSplitDevice implements DeviceRing {
  readonly vq: number;
  readonly #module: RingModule;

  /** `vq`: address of a state block in the memory that `module` was instantiated over. */
  constructor(module: RingModule, vq: number) {
    this.#module = module;
    this.vq = vq;
  }

  start(position: number): number {
    this.#module.deviceStart(this.vq, position);
    return 0;
  }

  getDescs(max: number): number {
    return this.#module.getDescs(this.vq, max);
  }

  addUsed(head: number, usedBytes: number): number {
    return this.#module.addUsed(this.vq, head, usedBytes);
  }

  addUsedN(count: number): number {
    return this.#module.addUsedN(this.vq, count);
  }

  publish(): void {
    this.#module.devicePublish(this.vq);
  }

  callNeeded(): boolean {
    return this.#module.callNeeded(this.vq) !== 0;
  }

  enableKick(): boolean {
    return this.#module.enableKick(this.vq) !== 0;
  }

  disableKick(): void {
    this.#module.disableKick(this.vq);
  }

  availLen(): number {
    return this.#module.availLen(this.vq);
  }

  kicked(position: number): number {
    return this.#module.kicked(this.vq, position);
  }
}
