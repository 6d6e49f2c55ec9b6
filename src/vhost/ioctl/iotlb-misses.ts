/** A question of a ring's: where is that? */
export interface IotlbMiss {
  readonly iova: bigint;
  /** What the ring wants to do there: VHOST_ACCESS_RO or _WO. */
  readonly perm: number;
  /** The ring had accepted messages of version 2 then. */
  readonly isV2: boolean;
  /** Has the ring's worker look again. */
  readonly wake: () => void;
}

/**
 * Questions of one ring that a list has at most; a further one takes the place of its oldest. A
 * ring waits for the last that it asked, so no wake-up is lost. Linux has no such limit.
 */
export const MISSES_PER_RING_MAX = 256;

/** A list in the order of arrival, no longer than its rings may make it. */
class MissList {
  readonly #misses: IotlbMiss[] = [];

  get length(): number {
    return this.#misses.length;
  }

  add(miss: IotlbMiss): void {
    const isOf = ({ wake }: IotlbMiss) => wake === miss.wake;
    if (this.#misses.filter(isOf).length >= MISSES_PER_RING_MAX) {
      this.#misses.splice(this.#misses.findIndex(isOf), 1);
    }
    this.#misses.push(miss);
  }

  take(): IotlbMiss | undefined {
    return this.#misses.shift();
  }

  /** Takes out all for which `isSo` holds. */
  takeAll(isSo: (miss: IotlbMiss) => boolean): IotlbMiss[] {
    const taken = this.#misses.filter(isSo);
    const left = this.#misses.filter((miss) => !isSo(miss));
    this.#misses.splice(0, this.#misses.length, ...left);
    return taken;
  }
}

/** What a device asked: not read yet, and read but not answered. Linux: read_list, pending_list. */
export class IotlbMisses {
  readonly #unread = new MissList();
  readonly #pending = new MissList();
  #waiters: (() => void)[] = [];

  /** How many were not read. */
  get unreadCount(): number {
    return this.#unread.length;
  }

  /** How many were read and not answered. */
  get pendingCount(): number {
    return this.#pending.length;
  }

  /** Asks; who waits is told. Linux: vhost_iotlb_miss(). */
  add(miss: IotlbMiss): void {
    this.#unread.add(miss);
    this.#tell();
  }

  /** The oldest that was not read; from now on it waits for its answer. */
  read(): IotlbMiss | undefined {
    const miss = this.#unread.take();
    if (miss) this.#pending.add(miss);
    return miss;
  }

  /**
   * Rings that have asked, and been read, for what lies in start … last look again. Linux:
   * vhost_iotlb_notify_vq().
   */
  answer(start: bigint, last: bigint): void {
    const isIn = ({ iova }: IotlbMiss) => start <= iova && iova <= last;
    for (const { wake } of this.#pending.takeAll(isIn)) wake();
  }

  /** All is forgotten; who waits is told. Linux: vhost_clear_msg(). */
  clear(): void {
    this.#unread.takeAll(() => true);
    this.#pending.takeAll(() => true);
    this.#tell();
  }

  /** Who waits is to look again. */
  #tell(): void {
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  /** Calls `waiter` once, when there may be something to read; returns how to give that up. */
  onTell(waiter: () => void): () => void {
    this.#waiters.push(waiter);
    return () => {
      this.#waiters = this.#waiters.filter((one) => one !== waiter);
    };
  }
}
