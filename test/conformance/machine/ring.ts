// The driver's side of a ring, as far as scenarios of processes need it: packets that are good,
// and how many of them came back. What is in rings is held to records elsewhere (`rings`).

/** A counter that one side adds to and the other takes. */
export class EventFd {
  #count = 0;
  /** Called at every write, in the writer's context. */
  onWrite: (() => void) | undefined;

  /** Adds one. */
  signal(): void {
    this.#count++;
    this.onWrite?.();
  }

  /** Signals since the last read; 0 where a read would have to wait. */
  read(): number {
    const count = this.#count;
    this.#count = 0;
    return count;
  }
}

/** A ring in memory that processes share, with its three eventfds. */
export class Ring {
  /** Free-running indices of 16 bits, as in memory. */
  availIdx = 0;
  usedIdx = 0;
  readonly kick = new EventFd();
  readonly call = new EventFd();
  readonly err = new EventFd();

  constructor(readonly num = 8) {}

  /** Makes `count` packets available, good ones that the device drops. Kicks nobody. */
  add(count = 1): void {
    this.availIdx = (this.availIdx + count) & 0xffff;
  }
}
