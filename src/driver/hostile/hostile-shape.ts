import type { QueueAddresses } from "../transport.js";
import type { HostileMemory } from "./hostile-memory.js";
import type { HostileStage } from "./hostile-stage.js";

/** Split virtqueues (virtio 1.3, 2.7) or packed ones (2.8). */
export type RingFormat = "split" | "packed";

/**
 * What a shape may end in, and nothing else may happen: `served`: it came back, answered;
 * `refused-chain`: it came back with length 0, and the queue goes on; `refused-queue`: nothing came
 * back until the ring was repaired; `refused-setup`: the queue was not taken at all; `reset`: the
 * driver reset the device, which wrote nothing after it.
 */
export type HostileEnding =
  | "served"
  | "refused-chain"
  | "refused-queue"
  | "refused-setup"
  | "reset";

/** What a shape needs to mean anything. */
export interface HostileNeeds {
  /** VIRTIO_F_INDIRECT_DESC was negotiated; false: it was not. */
  indirect?: boolean;
  /** VIRTIO_F_EVENT_IDX was negotiated; false: it was not. */
  eventIdx?: boolean;
  /** Only for a device of this class (`VIRTIO_ID_…`). */
  deviceId?: number;
}

/** How a queue is laid out for a shape that is about its areas. */
export interface HostileLayout {
  /** Guest addresses, made from good ones. `spare`: 8 KiB of guest memory, aligned to 4096. */
  areas(good: QueueAddresses, memory: HostileMemory, spare: bigint): QueueAddresses;
  /** Split: the descriptors below this part of the table are not used. */
  firstDesc?(num: number): number;
  /** The device is told of it while it runs. */
  whileRunning?: boolean;
}

/** One way to break the rules, or to keep to them in a way that others did not expect. */
export interface HostileShape {
  /** In kebab-case; no two have the same. */
  readonly name: string;
  /** What it is and, where somebody fell for it, who. */
  readonly description: string;
  readonly formats: readonly RingFormat[];
  readonly needs?: HostileNeeds;
  /** What a device with policy "strict" makes of it. */
  readonly expect: HostileEnding;
  /** As what it is counted, once: `VRING_E_…`. Left out: it is not. */
  readonly error?: string;
  /** It is counted once for each entry of the ring. */
  readonly isInEachEntry?: boolean;
  /** It is counted or not, as the two sides' timing has it. */
  readonly isRacy?: boolean;
  /** The device is reset before and after it, all queues. */
  readonly restarts?: boolean;
  /** The device is reset at once, with the chains in flight. */
  readonly resetsInFlight?: boolean;
  /** The queue is laid out like this. */
  readonly layout?: HostileLayout;
  /** Bytes that are an answer, if not those of a good request. */
  isAnswer?(written: Uint8Array): boolean;
  /** Writes the chains; they become visible after it, all at once. */
  stage?(stage: HostileStage): void;
}

/** How a shape went. */
export interface HostileOutcome {
  /** Name of the shape. */
  shape: string;
  /**
   * Also `skipped`: it does not apply to this queue or device; `died`: the device did, and the
   * driver is of no use after it.
   */
  ending: HostileEnding | "skipped" | "died";
  /** How the queue served a good request afterwards; `never`: not even after a reset. */
  serves: "at-once" | "after-repair" | "after-reset" | "never";
  /** What was answered is an answer. True when nothing was. */
  isAnswerRight: boolean;
  /** Nothing was written but what the device was given, and of a refused chain nothing at all. */
  isIntact: boolean;
  /** All of the above is as the shape expects, without a reset. True when it was skipped. */
  isAsExpected: boolean;
  /** Milliseconds of it all. */
  ms: number;
}
