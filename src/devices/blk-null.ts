import type { BlkBackend } from "./blk-backend.js";

/** A disk that moves nothing: reads leave the buffer as it is. For measuring all the rest. */
export class NullBackend implements BlkBackend {
  readonly isReadOnly: boolean;
  readonly sizeBytes: number;

  constructor(sizeBytes: number, isReadOnly = false) {
    this.isReadOnly = isReadOnly;
    this.sizeBytes = sizeBytes;
  }

  read(_offset: number, _address: number, length: number): number {
    return length;
  }

  readv(_offset: number, views: Uint8Array<ArrayBufferLike>[]): number {
    return views.reduce((sum, view) => sum + view.length, 0);
  }

  write(_offset: number, _address: number, length: number): number {
    return length;
  }

  writev(offset: number, views: Uint8Array<ArrayBufferLike>[]): number {
    return this.readv(offset, views);
  }

  flush(): number {
    return 0;
  }

  writeZeroes(): number {
    return 0;
  }

  discard(): number {
    return 0;
  }

  close(): void {}
}
