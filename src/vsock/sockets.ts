import { VhostError } from "../spec/errno.js";
import { checkNames } from "../spec/options.js";
import { VMADDR_ANY } from "../spec/virtio-vsock.js";
import type { VsockConnection } from "./connection.js";
import { type EndpointOptions, VsockEndpoint } from "./endpoint.js";
import { VsockStream } from "./stream.js";

/** How long a connection may take to come about. Linux: VSOCK_DEFAULT_CONNECT_TIMEOUT. */
const CONNECT_TIMEOUT_MS = 2000;

/** How to wait for a connection. */
export interface ConnectOptions {
  /** Gives up. */
  signal?: AbortSignal | undefined;
  /** Gives up after so long, with ETIMEDOUT. Default 2000. */
  timeoutMs?: number | undefined;
}

/** A port that is listened at. */
export interface VsockListener extends Disposable {
  readonly port: number;
  /** Refuses what comes from now on; streams that there are go on. Idempotent. */
  close(): void;
}

/** Throws EINVAL for what is no port. */
function checkPort(port: number): void {
  if (Number.isInteger(port) && port >= 0 && port < VMADDR_ANY) return;
  throw new VhostError("EINVAL", "a port is a whole number from 0 to 4294967294", { port });
}

/** Decides on a REQUEST for a port that nobody listens at: accepts or resets it, now or later. */
export type Otherwise = (connection: VsockConnection) => void;

/** An endpoint as a program has it: streams by port. One thread. */
export class VsockSockets {
  /** The packets' side of it. */
  readonly endpoint: VsockEndpoint;
  readonly #listeners = new Map<number, (stream: VsockStream) => void>();
  #gone: VhostError | undefined;
  /** Who decides on the ports that nobody listens at; nobody: they are refused. */
  otherwise: Otherwise | undefined;

  /**
   * Open at first. `onReady` is called when the endpoint has something to send. Throws EINVAL for
   * limits that are none.
   */
  constructor(options: EndpointOptions, onReady: () => void) {
    for (const name of ["bufferBytes", "connectionsMax"] as const) {
      const value = options[name];
      if (Number.isInteger(value) && value >= 1 && value <= 2 ** 30) continue;
      throw new VhostError("EINVAL", `${name} is a whole number from 1 to 2^30`, { value });
    }
    this.endpoint = new VsockEndpoint(options, {
      listens: (port) => this.#listeners.has(port) || this.otherwise !== undefined,
      requested: (connection) => this.#onRequest(connection),
      ready: onReady,
    });
  }

  #onRequest(connection: VsockConnection): void {
    const listener = this.#listeners.get(connection.localPort);
    if (!listener) {
      this.otherwise?.(connection);
      return;
    }
    const stream = new VsockStream(connection);
    connection.accept();
    process.nextTick(listener, stream); // its mistakes are not ours
  }

  /** Connections can be made (again). */
  open(): void {
    this.#gone = undefined;
  }

  /** All streams end with `error`, and none can be made. */
  close(error: VhostError): void {
    this.#gone = error;
    this.endpoint.reset(error);
  }

  /**
   * Takes each connection to `port` that the other side makes; `onConnection` gets its stream.
   * Throws EADDRINUSE, EINVAL.
   */
  listen(port: number, onConnection: (stream: VsockStream) => void): VsockListener {
    checkPort(port);
    if (typeof onConnection !== "function") {
      throw new VhostError("EINVAL", "who listens at a port is a function");
    }
    if (this.#listeners.has(port)) {
      throw new VhostError("EADDRINUSE", `port ${port} is listened at already`, { port });
    }
    this.#listeners.set(port, onConnection);
    const close = () => {
      if (this.#listeners.get(port) === onConnection) this.#listeners.delete(port);
    };
    return { port, close, [Symbol.dispose]: close };
  }

  /**
   * Connects to a port of the other side. Rejects with ECONNREFUSED when nobody listens there,
   * ETIMEDOUT, ENOBUFS at the limit of connections, ENODEV without a device, EINVAL, and with the
   * signal's reason.
   */
  async connect(port: number, options: ConnectOptions = {}): Promise<VsockStream> {
    checkNames("connect", options, ["signal", "timeoutMs"]);
    checkPort(port);
    const { signal, timeoutMs = CONNECT_TIMEOUT_MS } = options;
    signal?.throwIfAborted();
    if (this.#gone) throw this.#gone;
    const connection = this.endpoint.connect(port);
    let giveUp = (_: unknown) => {};
    let failure: Error | undefined;
    const fail = (error: Error) => {
      failure = error;
    };
    const message = `port ${port} of the other side did not answer in ${timeoutMs} ms`;
    const onAbort = () => giveUp(signal?.reason);
    const timer = setTimeout(() => giveUp(new VhostError("ETIMEDOUT", message)), timeoutMs);
    signal?.addEventListener("abort", onAbort);
    try {
      const stream = await new Promise<VsockStream>((resolve, reject) => {
        giveUp = reject;
        connection.events = {
          established: () => resolve(new VsockStream(connection).on("error", fail)),
          closed: reject,
          readable: () => {},
          sent: () => {},
        };
      });
      if (failure) throw failure; // it was told before anyone could listen
      return stream.off("error", fail);
    } catch (error) {
      connection.reset();
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }
}
