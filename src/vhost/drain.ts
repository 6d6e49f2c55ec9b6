/** How many chains a device takes: so many, or a function that says, each time, how many more. */
export type Room = number | (() => number);

/** How many more the device takes, having taken so many. */
export const leftOf = (room: Room, taken: number): number =>
  typeof room === "number" ? room - taken : room();

/** How `drain` goes about it. */
export interface DrainWays {
  /** Chains that it pops at once, at most: for a device to which each is little work. */
  readonly burstMax?: number;
  /**
   * Handles chains of the burst, `count` at most from `first` on, and sets their used bytes; how
   * many of them. The next is for `handle`.
   */
  readonly bulk?: (first: number, count: number) => number;
}

/** What a queue needs of its worker. */
export interface QueueHooks {
  /** Notifies the driver that entries of a queue were used. */
  call(queue: number): void;
  /** The queue met so many errors: counted by the ring, by their kinds. */
  error(queue: number, count: number): void;
  /** So many requests and bytes were done. */
  count(requests: number, bytes: number): void;
  /** A request failed on the device's own side, for a reason of the system's. */
  fail(errno: number): void;
  /** A clock, in milliseconds. */
  now(): number;
  /** Whether the worker looks at the rings for a time without being kicked. */
  polls(): boolean;
}
