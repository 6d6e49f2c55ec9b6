import { MessageChannel, type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import type { RingKind } from "../ring/load.js";
import { type Errno, VhostError } from "../spec/errno.js";
import type { DeviceInfo } from "./device.js";
import type { IotlbSetup } from "./ioctl/iotlb-ring.js";

/** What a worker needs to begin with; structured-cloneable except for the port, which is moved. */
export interface WorkerSetup {
  memory: WebAssembly.Memory;
  doorbell: SharedArrayBuffer;
  /** The doorbell by which drivers are called; default: its own. Without a notifier. */
  calls?: SharedArrayBuffer;
  counters: SharedArrayBuffer;
  /** See `WorkerOptions.tellsErrors`. */
  tellsErrors?: boolean;
  /** Module and options of the notifier; without one, the doorbell is it. */
  notifier?: { module: string; options: unknown } | undefined;
  ringKind: RingKind;
  /** Microseconds to go on looking at the rings after the last work, before sleeping. */
  pollMicroseconds: number;
}

/** The same for a thread: with its end of the owner's messages. */
export type ThreadSetup = WorkerSetup & { control: MessagePort };

/** How the two sides of a queue notify each other, where that goes by eventfds. */
export interface VringNotify {
  /** Read for kicks. Linux: VHOST_SET_VRING_KICK. */
  kickFd?: number | undefined;
  /** Written for calls; without one, none are made. Linux: VHOST_SET_VRING_CALL. */
  callFd?: number | undefined;
  /** Written when the ring met an error. Linux: VHOST_SET_VRING_ERR. */
  errFd?: number | undefined;
  /** The ring is not touched before its first kick. */
  awaitsKick?: boolean;
}

/** Where a queue is, and whether it still waits for its first kick. */
export interface RingPosition {
  index: number;
  /** Where it goes on: what `DeviceRing.start` takes. */
  position: number;
  awaitsKick: boolean;
}

/** A queue that its worker has left. */
export interface QueueLeft {
  /** It still waits for its first kick. */
  awaitsKick: boolean;
  /** A turn was due to it, or the device wants what is in it. */
  isDue: boolean;
}

/** A queue to start: its number, its state block (already laid out), where it goes on. */
export interface RingStart extends RingPosition, VringNotify {
  vq: number;
  awaitsKick: boolean;
  /** It runs: another worker has left it as it is, and its state block says where it goes on. */
  goesOn?: boolean;
  /** It has no turn before its first kick, though it has begun. */
  waits?: boolean;
  /** How long its worker is to look at it before it sleeps; see `VhostWorker.busyloopMs`. */
  busyloopMicroseconds?: number | undefined;
  /** Its addresses are the device's own, and are translated; `questions`: see `IotlbQuestions`. */
  iotlb?: (IotlbSetup & { questions: SharedArrayBuffer }) | undefined;
}

/**
 * What the owner can ask of the worker: by message when it is a thread, directly when it is not.
 */
export interface WorkerControl {
  /**
   * Makes the device, which may use what `claims` names. `shared`: what an instance in another
   * worker has made for all. Throws what its module throws.
   */
  attach(module: string, options: unknown, claims: string[], shared?: unknown): Promise<DeviceInfo>;
  /** Starts queues under the accepted features. */
  start(features: bigint, rings: RingStart[]): Promise<void>;
  /**
   * Stops all queues; gives the next entry of each that was started. Linux: VHOST_GET_VRING_BASE.
   */
  stop(): Promise<RingPosition[]>;
  /** Stops one queue for good; its driver is not called any more. virtio 1.3, 2.6.1. */
  stopQueue(index: number): Promise<void>;
  /**
   * Leaves one queue as it is, for another worker to go on with: what the device holds of it is
   * answered before. Linux: vhost_vq_attach_worker().
   */
  takeQueue(index: number): Promise<QueueLeft>;
  /** Starts one queue beside those that run, under the features of `start`. */
  startQueue(ring: RingStart): Promise<void>;
  /** See `RingStart.busyloopMicroseconds`, for a queue that runs. */
  setBusyloopTimeout(index: number, microseconds: number | undefined): Promise<void>;
  /** Device reset, queues stopped. */
  reset(): Promise<void>;
  /** See `VirtioDevice.renew`; queues are stopped. */
  renew(): Promise<void>;
  /** See `VirtioDevice.announce`. */
  announce(mac: Uint8Array): Promise<void>;
  /** The configuration space. */
  readConfig(): Promise<Uint8Array>;
  /** A write to it. */
  writeConfig(offset: number, bytes: Uint8Array): Promise<void>;
  /** Serves another device of the owner's as well, from here on, in the same thread. */
  adopt(setup: ThreadSetup): Promise<void>;
  /** Closes the device. */
  detach(): Promise<void>;
}

interface Request {
  id: number;
  method: keyof WorkerControl;
  args: unknown[];
}

interface Failure {
  code: Errno;
  message: string;
  facts: Record<string, unknown>;
}

type Reply = { id: number; value: unknown } | { id: number; failure: Failure };

const METHODS: readonly (keyof WorkerControl)[] = [
  "attach",
  "start",
  "stop",
  "stopQueue",
  "takeQueue",
  "startQueue",
  "setBusyloopTimeout",
  "reset",
  "renew",
  "announce",
  "readConfig",
  "writeConfig",
  "adopt",
  "detach",
];

/** Any thrown thing as a `VhostError`: what is none becomes EIO. */
export function asVhostError(error: unknown): VhostError {
  if (error instanceof VhostError) return error;
  const isMissing = (error as { code?: unknown } | null)?.code === "ERR_MODULE_NOT_FOUND";
  const code = isMissing ? "ENOENT" : "EIO";
  return new VhostError(code, `the device failed: ${String(error)}`, {}, error);
}

/** Any thrown thing as it can cross threads. */
function toFailure(thrown: unknown): Failure {
  const error = asVhostError(thrown);
  const message = error.message.slice(error.code.length + 2);
  return { code: error.code, message, facts: { ...error.facts } };
}

/** Worker thread: answers the owner's calls. */
export class ControlServer {
  readonly #port: MessagePort;
  readonly #target: WorkerControl;

  constructor(port: MessagePort, target: WorkerControl) {
    this.#port = port;
    this.#target = target;
  }

  /** Answers every call that has arrived, in order. */
  async serve(): Promise<void> {
    for (;;) {
      const received = receiveMessageOnPort(this.#port) as { message: Request } | undefined;
      if (!received) return;
      this.#port.postMessage(await this.#answer(received.message));
    }
  }

  async #answer({ id, method, args }: Request): Promise<Reply> {
    try {
      const call = this.#target[method] as (...args: unknown[]) => Promise<unknown>;
      return { id, value: await call.apply(this.#target, args) };
    } catch (error) {
      return { id, failure: toFailure(error) };
    }
  }
}

/** Owner's thread: calls into the worker. Every call ends: with the answer, or by `fail`. */
export class ControlClient {
  /** The worker's end; move it there. */
  readonly remote: MessagePort;
  readonly #port: MessagePort;
  readonly #wake: () => void;
  readonly #waiting = new Map<number, { resolve(v: unknown): void; reject(e: unknown): void }>();
  #lastId = 0;
  #failure: VhostError | undefined;

  /** `wake` makes the worker look at its messages. */
  constructor(wake: () => void) {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    this.remote = port2;
    this.#wake = wake;
    port1.on("message", (reply: Reply) => this.#receive(reply));
    port1.unref();
  }

  /** The worker's functions, called by message. */
  readonly worker: WorkerControl = Object.fromEntries(
    METHODS.map((method) => [method, (...args: unknown[]) => this.#call(method, args)]),
  ) as unknown as WorkerControl;

  #call(method: keyof WorkerControl, args: unknown[]): Promise<unknown> {
    if (this.#failure) return Promise.reject(this.#failure);
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#port.ref();
      const moved = method === "adopt" ? [(args[0] as ThreadSetup).control] : [];
      this.#port.postMessage({ id, method, args } satisfies Request, moved);
      this.#wake();
    });
  }

  #receive(reply: Reply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (this.#waiting.size === 0) this.#port.unref();
    if ("failure" in reply) {
      const { code, message, facts } = reply.failure;
      waiting?.reject(new VhostError(code, message, facts));
    } else {
      waiting?.resolve(reply.value);
    }
  }

  /** The worker is gone: rejects what waits and all that comes. */
  fail(error: VhostError): void {
    this.#failure ??= error;
    for (const waiting of this.#waiting.values()) waiting.reject(this.#failure);
    this.#waiting.clear();
    this.#port.close();
  }
}
