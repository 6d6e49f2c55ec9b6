// What both threads of the hostile bench know.

/** What the ring is full of. `none`: the thread waits. */
export const FLOOD = { none: 0, good: 1, circles: 2, tables: 3, end: 4 } as const;
/** Words that both threads see: what is asked for, what is being done, and fills so far. */
export const FLOOD_CELL = { order: 0, state: 1, fills: 2 } as const;

/** What the thread is made with. Addresses are linear; `room` lies in the second region. */
export interface FloodSetup {
  memory: WebAssembly.Memory;
  cell: Int32Array<SharedArrayBuffer>;
  isPacked: boolean;
  num: number;
  desc: number;
  driver: number;
  device: number;
  room: { linear: number; guest: bigint };
}
