/** A range of a device's addresses, and where in the program it lies. Linux: vhost_iotlb_map. */
export interface IotlbMap {
  /** The first address, and the last one. */
  readonly start: bigint;
  readonly last: bigint;
  /** User address of `start`. */
  readonly uaddr: bigint;
  /** VHOST_ACCESS_… bits; others have no meaning. */
  readonly perm: number;
}

/** Bytes of a row: four u64 and a u32. */
const ROW_BYTES = 36;

/** Bytes that so many rows take. */
export const columnsBytes = (rows: number): number => rows * ROW_BYTES;

/**
 * Ranges by start, a column for each of their fields, in any memory. How many there are is for the
 * caller to know.
 */
export class IotlbColumns {
  readonly starts: BigUint64Array<ArrayBufferLike>;
  readonly lasts: BigUint64Array<ArrayBufferLike>;
  readonly uaddrs: BigUint64Array<ArrayBufferLike>;
  /** The largest `last` of rows 0 to i. */
  readonly maxima: BigUint64Array<ArrayBufferLike>;
  readonly perms: Uint32Array<ArrayBufferLike>;

  /** `start`: offset in `buffer`, a multiple of 8; `rows`: room for so many. */
  constructor(buffer: ArrayBufferLike, start: number, rows: number) {
    const column = (i: number) => new BigUint64Array(buffer, start + 8 * rows * i, rows);
    this.starts = column(0);
    this.lasts = column(1);
    this.uaddrs = column(2);
    this.maxima = column(3);
    this.perms = new Uint32Array(buffer, start + 8 * rows * 4, rows);
  }

  get #all() {
    return [this.starts, this.lasts, this.uaddrs, this.maxima, this.perms] as const;
  }

  /** Copies so many rows of another's. */
  copy(from: IotlbColumns, rows: number): void {
    this.starts.set(from.starts.subarray(0, rows));
    this.lasts.set(from.lasts.subarray(0, rows));
    this.uaddrs.set(from.uaddrs.subarray(0, rows));
    this.maxima.set(from.maxima.subarray(0, rows));
    this.perms.set(from.perms.subarray(0, rows));
  }

  /** Moves rows `from` … `end` - 1 to `to` on. */
  move(to: number, from: number, end: number): void {
    for (const column of this.#all) column.copyWithin(to, from, end);
  }

  /** Sets a row, but for its maximum. */
  set(row: number, { start, last, uaddr, perm }: IotlbMap): void {
    this.starts[row] = start;
    this.lasts[row] = last;
    this.uaddrs[row] = uaddr;
    this.perms[row] = perm;
  }

  /** A row. */
  at(row: number): IotlbMap {
    return {
      start: this.starts[row] as bigint,
      last: this.lasts[row] as bigint,
      uaddr: this.uaddrs[row] as bigint,
      perm: this.perms[row] as number,
    };
  }

  /** The first of `rows` rows that begins behind `start`; `rows`: none does. */
  rowBehind(rows: number, start: bigint): number {
    return firstRow(rows, (row) => (this.starts[row] as bigint) > start);
  }

  /** The first of `rows` rows that meets start … last, or -1: see `Iotlb.first`. */
  first(rows: number, start: bigint, last: bigint): number {
    const row = firstRow(rows, (i) => (this.maxima[i] as bigint) >= start); // it makes the maximum
    return row < rows && (this.starts[row] as bigint) <= last ? row : -1;
  }
}

/** The first row from which on `isSo` holds; `rows` where it never does. */
export function firstRow(rows: number, isSo: (row: number) => boolean): number {
  let low = 0;
  let high = rows;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isSo(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
