import { VHOST_IOTLB_ENTRIES_MAX } from "../../spec/vhost-iotlb.js";

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

/**
 * What a device remembers of translations. Ranges may overlap, as in Linux: where several hold an
 * address, the one that begins first counts, then the one that came first. Linux: vhost_iotlb.
 */
export class Iotlb {
  readonly #limit: number;
  /** By start; of equal ones, what came first is before. */
  #maps: IotlbMap[] = [];
  /** The largest `last` of maps 0 to i: as long as it has been asked for. */
  readonly #lastMax: bigint[] = [];
  /** In the order in which they came. */
  readonly #byAge = new Set<IotlbMap>();
  #changeCount = 0;

  /** Empty; of more than `limit` ranges the oldest goes. */
  constructor(limit = VHOST_IOTLB_ENTRIES_MAX) {
    this.#limit = limit;
  }

  /** How many ranges there are. */
  get size(): number {
    return this.#maps.length;
  }

  /** How often it was changed. */
  get changeCount(): number {
    return this.#changeCount;
  }

  /** What there is, by start. */
  get maps(): readonly IotlbMap[] {
    return this.#maps;
  }

  /** Linux: vhost_iotlb_add_range(). False: the range ends before it begins. */
  add(map: IotlbMap): boolean {
    if (map.last < map.start) return false;
    if (this.#maps.length === this.#limit) this.#removeOldest();
    const at = firstIndex(this.#maps, (one) => one.start > map.start);
    this.#maps.splice(at, 0, map);
    this.#byAge.add(map);
    this.#changed(at);
    return true;
  }

  #removeOldest(): void {
    for (const oldest of this.#byAge) {
      const at = this.#maps.indexOf(oldest);
      this.#maps.splice(at, 1);
      this.#byAge.delete(oldest);
      this.#changed(at);
      return;
    }
  }

  #changed(at: number): void {
    this.#changeCount++;
    if (this.#lastMax.length > at) this.#lastMax.length = at;
  }

  /** Every range that meets start … last goes, as a whole. Linux: vhost_iotlb_del_range(). */
  delete(start: bigint, last: bigint): void {
    const kept = this.#maps.filter((map) => map.start > last || map.last < start);
    if (kept.length === this.#maps.length) return;
    for (const map of this.#maps) {
      if (map.start <= last && map.last >= start) this.#byAge.delete(map);
    }
    this.#maps = kept;
    this.#changed(0);
  }

  /**
   * The range that begins first of those that meet start … last. With `last` before `start`, which
   * a hostile length brings about: that holds both. Linux: vhost_iotlb_itree_first().
   */
  first(start: bigint, last: bigint): IotlbMap | undefined {
    const maxima = this.#maxima();
    const map = this.#maps[firstIndex(maxima, (max) => max >= start)]; // it makes the maximum so
    return map !== undefined && map.start <= last ? map : undefined;
  }

  #maxima(): readonly bigint[] {
    const maxima = this.#lastMax;
    for (let i = maxima.length; i < this.#maps.length; i++) {
      const { last } = this.#maps[i] as IotlbMap;
      const before = maxima[i - 1] ?? 0n;
      maxima.push(before > last ? before : last);
    }
    return maxima;
  }
}

/** The first index from which on `isSo` holds; the list's length where it never does. */
function firstIndex<T>(list: readonly T[], isSo: (one: T) => boolean): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isSo(list[middle] as T)) high = middle;
    else low = middle + 1;
  }
  return low;
}
