/**
 * Where a block device's bytes are. Every function returns a count of bytes or 0, or a negative
 * errno; none throws. Offsets and lengths are in bytes, checked by the caller to lie within
 * `sizeBytes` rounded up to a sector. Addresses are of the owner's memory.
 */
export interface BlkBackend {
  /** Bytes of the disk. The last sector may be short when it is read-only. */
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  /** Reads into one run of memory; fewer bytes than asked only at the end of the disk. */
  read(offset: number, address: number, length: number): number;
  /** Reads into several. */
  readv(offset: number, views: Uint8Array<ArrayBufferLike>[]): number;
  /** Writes from one run of memory; fewer bytes than asked is an error to the caller. */
  write(offset: number, address: number, length: number): number;
  /** Writes from several. */
  writev(offset: number, views: Uint8Array<ArrayBufferLike>[]): number;
  /** Makes what was written stable. */
  flush(): number;
  /** Fills with zeroes. */
  writeZeroes(offset: number, length: number): number;
  /** These bytes are not needed any more; a hint. */
  discard(offset: number, length: number): number;
  /** Gives back what it holds. */
  close(): void;
}
