import { VHOST_IOTLB_ENTRIES_MAX } from "../../spec/vhost-iotlb.js";
import { columnsBytes, IotlbColumns, type IotlbMap } from "./iotlb-columns.js";

// Indices of i32 words. The kernel's thread writes them.
/** Goes up by one before a change, and by one after it: odd, the table is being changed. */
const SEQUENCE = 0;
const SIZE = 1;
const HEADER_BYTES = 16;

/** So often a reader looks at a table that is being changed. */
const TRIES_MAX = 1000;

/**
 * What a device remembers of translations, in shared memory: the kernel's thread changes it, others
 * read it by an `IotlbView`. Ranges may overlap, as in Linux: where several hold an address, the
 * one that begins first counts, then the one that came first. Kernel's thread. Linux: vhost_iotlb.
 */
export class Iotlb {
  /** For `IotlbView`. */
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #columns: IotlbColumns;
  readonly #limit: number;
  /** When each row came: a number that goes up. */
  #ages: number[] = [];
  #lastAge = 0;

  /** Empty; of more than `limit` ranges the oldest goes. */
  constructor(limit = VHOST_IOTLB_ENTRIES_MAX) {
    this.#limit = limit;
    this.buffer = new SharedArrayBuffer(HEADER_BYTES + columnsBytes(limit));
    this.#words = new Int32Array(this.buffer, 0, HEADER_BYTES / 4);
    this.#columns = new IotlbColumns(this.buffer, HEADER_BYTES, limit);
  }

  /** How many ranges there are. */
  get size(): number {
    return this.#ages.length;
  }

  /** Where its changes have come to; see `IotlbView.changeCount`. */
  get changeCount(): number {
    return Atomics.load(this.#words, SEQUENCE);
  }

  /** What there is, by start. */
  get maps(): readonly IotlbMap[] {
    return this.#ages.map((_, row) => this.#columns.at(row));
  }

  /** Readers take nothing of what is written meanwhile: pairs with the loads in `IotlbView`. */
  #change(change: () => void): void {
    Atomics.add(this.#words, SEQUENCE, 1);
    change();
    Atomics.store(this.#words, SIZE, this.size);
    Atomics.add(this.#words, SEQUENCE, 1);
  }

  /** Linux: vhost_iotlb_add_range(). False: the range ends before it begins. */
  add(map: IotlbMap): boolean {
    if (map.last < map.start) return false;
    this.#change(() => {
      if (this.size === this.#limit) this.#remove(this.#ages.indexOf(Math.min(...this.#ages)));
      this.#insert(map);
    });
    return true;
  }

  #insert(map: IotlbMap): void {
    const columns = this.#columns;
    const row = columns.rowBehind(this.size, map.start);
    columns.move(row + 1, row, this.size);
    columns.set(row, map);
    this.#ages.splice(row, 0, ++this.#lastAge);
    this.#setMaxima(row);
  }

  #remove(row: number): void {
    this.#columns.move(row, row + 1, this.size);
    this.#ages.splice(row, 1);
    this.#setMaxima(row);
  }

  /** From `row` on. */
  #setMaxima(row: number): void {
    const { lasts, maxima } = this.#columns;
    let max = row === 0 ? 0n : (maxima[row - 1] as bigint);
    for (let i = row; i < this.size; i++) {
      const last = lasts[i] as bigint;
      if (last > max) max = last;
      maxima[i] = max;
    }
  }

  /** Every range that meets start … last goes, as a whole. Linux: vhost_iotlb_del_range(). */
  delete(start: bigint, last: bigint): void {
    const columns = this.#columns;
    const isMet = (row: number) =>
      (columns.starts[row] as bigint) <= last && (columns.lasts[row] as bigint) >= start;
    const first = this.#ages.findIndex((_, row) => isMet(row));
    if (first < 0) return;
    this.#change(() => {
      let kept = first;
      this.#ages = this.#ages.filter((_, row) => {
        if (row < first) return true;
        if (isMet(row)) return false;
        columns.move(kept++, row, row + 1);
        return true;
      });
      this.#setMaxima(first);
    });
  }

  /** All go. */
  clear(): void {
    this.#change(() => {
      this.#ages = [];
    });
  }

  /**
   * The range that begins first of those that meet start … last. With `last` before `start`, which
   * a hostile length brings about: that holds both. Linux: vhost_iotlb_itree_first().
   */
  first(start: bigint, last: bigint): IotlbMap | undefined {
    const row = this.#columns.first(this.size, start, last);
    return row < 0 ? undefined : this.#columns.at(row);
  }
}

/**
 * A table as another thread reads it: from a copy of its own, which is made anew when the table has
 * changed. There is no lock that either could hold; a copy that was made while the table changed
 * is never used. Any thread.
 */
export class IotlbView {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #table: IotlbColumns;
  readonly #copy: IotlbColumns;
  #size = 0;
  #seen = -1;

  /** Of the table in `buffer`. */
  constructor(buffer: SharedArrayBuffer) {
    const rows = Math.floor((buffer.byteLength - HEADER_BYTES) / columnsBytes(1));
    this.#words = new Int32Array(buffer, 0, HEADER_BYTES / 4);
    this.#table = new IotlbColumns(buffer, HEADER_BYTES, rows);
    this.#copy = new IotlbColumns(new ArrayBuffer(columnsBytes(rows)), 0, rows);
  }

  /** Where the table's changes have come to: odd, it is being changed. */
  get changeCount(): number {
    return Atomics.load(this.#words, SEQUENCE);
  }

  /** The `changeCount` that the last `first` went by; -1: none, see there. */
  get seen(): number {
    return this.#seen;
  }

  /** As `Iotlb.first`; `undefined`, too, where the table does not stop changing: `seen` is -1. */
  first(start: bigint, last: bigint): IotlbMap | undefined {
    if (this.changeCount !== this.#seen) this.#take();
    const row = this.#copy.first(this.#size, start, last);
    return row < 0 ? undefined : this.#copy.at(row);
  }

  #take(): void {
    for (let left = TRIES_MAX; left > 0; left--) {
      const before = this.changeCount;
      if (before % 2 !== 0) continue;
      const size = Atomics.load(this.#words, SIZE);
      this.#copy.copy(this.#table, size);
      // A write, though it writes nothing: the reads of the copy are not put behind it.
      if (Atomics.add(this.#words, SEQUENCE, 0) !== before) continue;
      this.#size = size;
      this.#seen = before;
      return;
    }
    this.#size = 0;
    this.#seen = -1;
  }
}
