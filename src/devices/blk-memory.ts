import type { BlkBackend } from "./blk-backend.js";

/** A disk in memory that is given to it, and stays when it closes. */
export class MemoryBackend implements BlkBackend {
  readonly isReadOnly: boolean;
  readonly sizeBytes: number;
  readonly #disk: Uint8Array;
  readonly #memory: Uint8Array<ArrayBufferLike>;

  /** `disk`: its bytes. */
  constructor(disk: SharedArrayBuffer, isReadOnly: boolean, memory: WebAssembly.Memory) {
    this.isReadOnly = isReadOnly;
    this.sizeBytes = disk.byteLength;
    this.#disk = new Uint8Array(disk);
    this.#memory = new Uint8Array(memory.buffer);
  }

  read(offset: number, address: number, length: number): number {
    this.#memory.set(this.#disk.subarray(offset, offset + length), address);
    return length;
  }

  readv(offset: number, views: Uint8Array<ArrayBufferLike>[]): number {
    let at = offset;
    for (const view of views) {
      view.set(this.#disk.subarray(at, at + view.length));
      at += view.length;
    }
    return at - offset;
  }

  write(offset: number, address: number, length: number): number {
    this.#disk.set(this.#memory.subarray(address, address + length), offset);
    return length;
  }

  writev(offset: number, views: Uint8Array<ArrayBufferLike>[]): number {
    let at = offset;
    for (const view of views) {
      this.#disk.set(view, at);
      at += view.length;
    }
    return at - offset;
  }

  flush(): number {
    return 0;
  }

  writeZeroes(offset: number, length: number): number {
    this.#disk.fill(0, offset, offset + length);
    return 0;
  }

  discard(offset: number, length: number): number {
    return this.writeZeroes(offset, length);
  }

  close(): void {}
}
