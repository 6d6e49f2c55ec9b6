import type { VhostError } from "../spec/errno.js";
import type { QueueCounts } from "../vhost/counters.js";

/** What a server has to tell: one line of a log each. */
export type VhostUserEvent =
  /** A front-end may connect. */
  | { event: "listening"; socketPath: string }
  /** We connect to one, and again whenever it was gone. */
  | { event: "connecting"; socketPath: string }
  /** One did; `worker` is the name of its thread. */
  | { event: "connected"; pid: number; uid: number; gid: number; comm: string; worker: string }
  /** Another did, and waits until that one goes. */
  | { event: "waiting" }
  /** One did, and can't be served. */
  | { event: "rejected"; error: VhostError }
  /** A message was refused: with an error as the reply, or the connection ends. */
  | { event: "refused"; request: string; error: VhostError }
  /** A ring met errors, so often since the last time, by name. */
  | { event: "ring-error"; queue: number; errors: Record<string, number> }
  /** A ring can't run with what the front-end gave. */
  | { event: "ring-unusable"; queue: number; error: VhostError }
  /** Requests of a ring failed on the device's own side, so often since the last time. */
  | { event: "io-error"; queue: number; count: number; lastError: string }
  /** The front-end has gone; `error` when that was not its own doing. */
  | ({ event: "disconnected"; error?: VhostError } & QueueCounts);

/** Gets every event, in the thread of the server. */
export type VhostUserListener = (event: VhostUserEvent) => void;
