import type { Task } from "../../kernel/task.js";
import type { VirtioDevice } from "../device.js";
import type { NetBackendFile } from "./net-backend.js";
import type { VhostState } from "./state.js";

/** The end, in the kernel's thread, of a device that works in a worker. */
export interface BackingEnd {
  /** For the device's `createDevice`: structured-cloneable, unless the worker has no thread. */
  readonly options: unknown;
  /** Does what there is to do on this side. Whether there was anything. Never blocks. */
  work(): boolean;
  /** The worker is gone. */
  close(): void;
}

/**
 * What works on the rings behind a device node: a device in its owner's worker, made anew for each
 * owner, and what of it lives in the kernel's thread. Kernel's thread.
 */
export interface VhostBacking {
  /** File URL of the device's `DeviceModule`, and what that exports. */
  readonly module: string;
  readonly createDevice: (options: unknown) => VirtioDevice;
  /** Makes its end for a worker. */
  open(worker: Task, isInline: boolean): BackingEnd;
  /** What was accepted is this from now on. */
  featuresSet?(features: bigint): void;
  /**
   * A ring of vhost-net works for `now` from now on, in place of `old`, which is put when nothing
   * more comes to it.
   */
  backendSet?(index: number, old: NetBackendFile | null, now: NetBackendFile | null): void;
  /** The guest has this CID from now on. */
  cidSet?(cid: number): void;
  /** The last close. */
  released?(): void;
}

/** How a `VhostBacking` is made: with the state whose rings it works on. */
export type MakeBacking = (state: VhostState) => VhostBacking | undefined;
