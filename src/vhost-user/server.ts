import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Kernel } from "../kernel/kernel.js";
import { checkFsIdentity } from "../linux/thread-identity.js";
import { VhostError } from "../spec/errno.js";
import { PID_MAX_LIMIT } from "../spec/sched.js";
import { callUser } from "../vhost/call-user.js";
import { asVhostError } from "../vhost/control.js";
import type { QueueCounts } from "../vhost/counters.js";
import type { DevOptions } from "../vhost/dev.js";
import type { DeviceSpec } from "../vhost/device.js";
import { Connecting, type Entrance, Listening } from "./entrance.js";
import type { VhostUserEvent, VhostUserListener } from "./events.js";
import type { MemoryTrust } from "./region-map.js";
import { checkServeOptions } from "./serve-options.js";
import { Session, type SessionOptions } from "./session.js";

/** What to serve, where and how. */
export interface ServeOptions extends Pick<DevOptions, "ring" | "pollMicroseconds" | "policy"> {
  /** Path of the socket: made here, and removed at the end, but with `connect`. */
  socketPath: string;
  /**
   * Connect to the front-end, which listens there (QEMU's `server=on`, DPDK's `server=1`), and
   * again whenever it was gone. Default false.
   */
  connect?: boolean;
  /** The device: `blk({ file })` and the like. Each front-end gets it as it was left. */
  device: DeviceSpec;
  /** Ends the server when it aborts. */
  signal?: AbortSignal;
  /** Open files with the front-end's user and groups: needs CAP_SETUID and CAP_SETGID. */
  asOwner?: boolean;
  /**
   * Which memory a front-end may bring. "sealed", the default: such as can't be truncated under us.
   * "any": a front-end that truncates its memory ends this program.
   */
  memory?: MemoryTrust;
  /** The machine whose process a front-end becomes. Default: one for all servers. */
  kernel?: Kernel | { readonly model: Kernel };
  /** Workers, which have the device's queues in turn: at most one for each. Default 1. */
  workers?: number;
  /** Gets what happens. */
  onEvent?: VhostUserListener;
}

/** How long a server waits when it has no descriptors or threads left, in milliseconds. */
const RETRY_MS = 100;
/** A front-end that waits for so long, in milliseconds, is told of. */
const PATIENCE_MS = 1000;

let sharedKernel: Kernel | undefined;

/** Serves a device to one front-end after another, by a socket. Main thread. */
export class VhostUserServer implements AsyncDisposable {
  /** Resolves when it has ended and everything is given back. */
  readonly closed: Promise<void>;
  readonly #entrance: Entrance;
  readonly #abort = new AbortController();
  readonly #session: SessionOptions;
  #current: Session | undefined;

  /** `entrance`: ours from now on. See `serveVhostUser`. */
  constructor(entrance: Entrance, session: SessionOptions) {
    this.#session = session;
    this.#entrance = entrance;
    this.closed = this.#serve();
  }

  /** What the front-end that is connected has had done so far; `undefined` when none is. */
  get counts(): QueueCounts | undefined {
    return this.#current?.counts;
  }

  async #serve(): Promise<void> {
    const { signal } = this.#abort;
    try {
      while (!signal.aborted && (await this.#entrance.wait())) {
        await this.#serveNext(signal);
      }
    } finally {
      this.#entrance.close();
    }
  }

  /** Tells, once, of a front-end that waits for longer than it takes to follow another. */
  #watchWaiting(): NodeJS.Timeout {
    let isThere = false;
    const look = () => {
      const wasThere = isThere;
      isThere = this.#entrance.hasWaiting;
      if (!wasThere || !isThere) return;
      clearInterval(watch);
      this.#session.onEvent({ event: "waiting" });
    };
    const watch = setInterval(look, PATIENCE_MS / 2);
    return watch;
  }

  /** One front-end, to its end. Never rejects: what can't be served now is told and tried again. */
  async #serveNext(signal: AbortSignal): Promise<void> {
    const watch = this.#watchWaiting();
    try {
      const connection = this.#entrance.take();
      if (connection === undefined) return;
      this.#current = new Session(this.#session, connection);
      await this.#current.run(signal);
    } catch (error) {
      this.#session.onEvent({ event: "rejected", error: asVhostError(error) });
      await sleep(RETRY_MS, undefined, { signal }).catch(() => {});
    } finally {
      clearInterval(watch);
      this.#current = undefined;
    }
  }

  /** Sends the front-end away, and ends. Idempotent. */
  close(): Promise<void> {
    this.#abort.abort();
    this.#entrance.stop();
    return this.closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Serves `device` at a Unix socket to vhost-user front-ends (QEMU's vhost-user-blk, for one), one
 * after another. Resolves when it listens, or looks for who does; it ends with `signal` or
 * `close()`. Linux only, with the optional package koffi. Rejects with ENOSYS where those are
 * missing, EINVAL naming an option that is wrong (and for asOwner with io: "uring", which opens the
 * file in this thread), EADDRINUSE when somebody listens there, EPERM for `asOwner` without the
 * right to, ENOENT and EACCES for the folder of the socket or the device's file.
 */
export async function serveVhostUser(options: ServeOptions): Promise<VhostUserServer> {
  checkServeOptions(options);
  const { socketPath, device, signal, asOwner = false, memory = "sealed", onEvent } = options;
  signal?.throwIfAborted();
  if (asOwner) checkFsIdentity();
  if (asOwner && device.prepare) {
    throw new VhostError("EINVAL", "asOwner is for devices that open their files in the worker");
  }
  device.claims?.(); // what can't be served is said now, not to the first front-end
  sharedKernel ??= new Kernel({ pidMax: PID_MAX_LIMIT });
  const path = resolve(socketPath);
  const { ring, pollMicroseconds, policy, workers = 1 } = options;
  const onConnectError = (error: VhostError) => tell(onEvent, { event: "rejected", error });
  const { connect = false } = options;
  const entrance = connect ? new Connecting(path, onConnectError) : await Listening.at(path);
  const server = new VhostUserServer(entrance, {
    kernel: modelOf(options.kernel) ?? sharedKernel,
    device,
    worker: {
      ...(ring && { ring }),
      ...(pollMicroseconds !== undefined && { pollMicroseconds }),
      ...(policy && { policy }),
    },
    workers,
    asOwner,
    trust: memory,
    onEvent: (event) => tell(onEvent, event),
  });
  const end = () => void server.close().catch(() => {});
  const forget = () => signal?.removeEventListener("abort", end);
  signal?.addEventListener("abort", end);
  if (signal?.aborted) end(); // meanwhile
  server.closed.then(forget, forget); // who waits for it hears what went wrong
  tell(onEvent, { event: connect ? "connecting" : "listening", socketPath: path });
  return server;
}

function modelOf(kernel: ServeOptions["kernel"]): Kernel | undefined {
  return kernel && "model" in kernel ? kernel.model : kernel;
}

/** What a listener throws disturbs no session. */
function tell(listener: VhostUserListener | undefined, event: VhostUserEvent): void {
  if (listener) callUser(listener, event);
}
