import type { QueueAddresses } from "../transport.js";
import type { HostileArea, HostileMemory } from "./hostile-memory.js";

/** A descriptor as a shape says it: anything. */
export interface HostileDesc {
  /** Guest address; what is past 2^64 is cut. */
  addr: bigint;
  /** Bytes. */
  len: number;
  /**
   * VIRTQ_DESC_F_…; NEXT is added to all but the last of a chain, and a packed ring's AVAIL and
   * USED. Default 0.
   */
  flags?: number;
  /** Split rings and tables: where the chain goes on, if not at the descriptor after it. */
  next?: number;
}

/** What came back: id (head), and bytes that the device says it wrote. */
export interface HostileUsed {
  id: number;
  length: number;
}

/** Rings of both formats, laid out and written by hand: no ring of the product is behind it. */
export interface HostileRing {
  /** Entries. */
  readonly num: number;
  /** Linear addresses and bytes of the three areas. */
  readonly areas: Record<"desc" | "driver" | "device", HostileArea>;
  /** Chains that were published and have not come back. */
  readonly outstanding: number;
  /** An index was published that is not true. */
  readonly hasLied: boolean;

  /** Writes a chain that follows the others; nothing of it is visible before `publish`. */
  add(descs: readonly HostileDesc[]): void;
  /** Makes all that was added visible, the one store that does it last. */
  publish(): void;
  /** The next that came back. What is no answer to what was published is left where it is. */
  take(): HostileUsed | undefined;
  /**
   * Puts right what a device refuses, while it looks on: nothing bad is available after it. `good`
   * takes the place of what can't be taken back, and comes back.
   */
  repair(good: readonly HostileDesc[]): Promise<void>;
}

/** What a ring is made of. */
export interface HostileRingSetup {
  memory: HostileMemory;
  areas: QueueAddresses;
  hasEventIdx: boolean;
}

/** Writes `addr` and `len` of a descriptor at a linear address. */
export function writeAddrLen(memory: HostileMemory, at: number, desc: HostileDesc): void {
  memory.view.setBigUint64(at, BigInt.asUintN(64, desc.addr), true);
  memory.view.setUint32(at + 8, desc.len, true);
}
