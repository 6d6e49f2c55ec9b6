import { setImmediate as nextTurn } from "node:timers/promises";
import type { Kernel } from "../kernel/kernel.js";
import { makeEventfd, signalEventfd } from "../linux/eventfd.js";
import { closeFd } from "../linux/libc.js";
import { VhostError } from "../spec/errno.js";
import { VHOST_USER_PROTOCOL_F_REPLY_ACK, VHOST_USER_REQUESTS } from "../spec/vhost-user.js";
import { asVhostError } from "../vhost/control.js";
import type { QueueCounts } from "../vhost/counters.js";
import { type DevOptions, VhostDev } from "../vhost/dev.js";
import type { DeviceSpec } from "../vhost/device.js";
import type { NotifierSpec } from "../vhost/notifier.js";
import type { WorkerHandle } from "../vhost/worker-handle.js";
import { Backend } from "./backend.js";
import { ErrorWatch } from "./error-watch.js";
import type { EventfdNotifierOptions } from "./eventfd-notifier.js";
import type { VhostUserListener } from "./events.js";
import { Channel, closeAll, type Message } from "./message.js";
import { adoptPeer, type Peer } from "./peer.js";
import type { MemoryTrust } from "./region-map.js";
import { type Reply, type RequestType, requestType } from "./requests.js";

/** A worker that does not answer for so long, in milliseconds, is looked after. */
const BUSY_MS_MAX = 200;
/** A message that is not answered for so long, in milliseconds, ends the session. */
const ANSWER_MS_MAX = 60_000;
/** How often that is tested, in milliseconds. */
const UNBLOCK_MS = 100;
/** Requests of one front-end that are refused before it is sent away. */
const REFUSALS_MAX = 100;

/** What is to be done for each when the program exits. */
const liveSessions = new Set<() => void>();
process.on("exit", () => {
  for (const atExit of liveSessions) atExit();
});

/** What a session serves, and how. */
export interface SessionOptions {
  kernel: Kernel;
  device: DeviceSpec;
  worker: Pick<DevOptions, "ring" | "pollMicroseconds" | "policy">;
  /** How many have the queues in turn. */
  workers: number;
  /** The worker opens files as the front-end's user. */
  asOwner: boolean;
  trust: MemoryTrust;
  onEvent: VhostUserListener;
}

/**
 * One front-end, from its connection to its end: a process of the model, its device, its worker.
 * What it holds is given back however it ends. Main thread.
 */
export class Session {
  readonly #options: SessionOptions;
  readonly #connection: number;
  readonly #channel: Channel;
  #worker: WorkerHandle | undefined;
  /** Ends the worker, so that what waits for it is rejected. */
  #giveUp = () => {};
  /** The server ends it: what fails for that reason is nobody's fault. */
  #isEnding = false;
  #refusals = 0;
  /** Why a ring stands still, or all do. */
  #death: VhostError | undefined;
  /** When the message that is being answered came, in milliseconds; Infinity: none is. */
  #busySince = Number.POSITIVE_INFINITY;

  /** `connection`: the socket, ours from now on. */
  constructor(options: SessionOptions, connection: number) {
    this.#options = options;
    this.#connection = connection;
    this.#channel = new Channel(connection);
  }

  /** Serves the front-end until it goes or `signal` ends it. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const end = () => {
      this.#isEnding = true;
      this.#channel.close();
      this.#giveUp(); // a message that is being answered is not waited for
    };
    signal.addEventListener("abort", end);
    try {
      signal.throwIfAborted();
      const peer = adoptPeer(this.#options.kernel, this.#connection);
      await this.#serve(peer).finally(peer.release);
    } catch (error) {
      if (!signal.aborted) this.#options.onEvent({ event: "rejected", error: asVhostError(error) });
    } finally {
      signal.removeEventListener("abort", end);
      this.#channel.close();
    }
  }

  async #serve(peer: Peer): Promise<void> {
    const wakes: WakeEventfd[] = [];
    const notifier = notifierOf(peer, wakes, this.#options.asOwner);
    const dev = new VhostDev(this.#options.kernel, { ...this.#options.worker, notifier });
    let backend: Backend | undefined;
    let errors: ErrorWatch | undefined;
    let ended: { error?: VhostError } | undefined;
    const unblocking = setInterval(() => this.#unblock(backend), UNBLOCK_MS);
    const atExit = () => backend?.unblock(); // or the program's end waits for the worker
    liveSessions.add(atExit);
    try {
      dev.setOwner(peer.task);
      this.#worker = dev.worker;
      this.#giveUp = () => void dev.close().catch(() => {});
      dev.workers.onDeath((error) => this.#died(error));
      dev.workers.onQueueDeath((_, error) => this.#died(error));
      await dev.setBackend(this.#options.device);
      if (this.#options.workers > 1) await dev.spreadVrings(this.#options.workers);
      backend = this.#makeBackend(dev);
      this.#announce(peer, dev);
      errors = new ErrorWatch(dev, dev.worker.counters, this.#options.onEvent);
      ended = await this.#converse(backend);
    } finally {
      this.#busySince = 0; // whatever is under way now, it is to end
      await dev.close().catch(() => {}); // what its close threw has ended the worker already
      errors?.close();
      clearInterval(unblocking);
      liveSessions.delete(atExit);
      await backend?.release().catch(() => {}); // what can't be unmapped is not used again
      for (const wake of wakes) wake.close();
    }
    // Only now: nothing of what was in flight is done any more.
    this.#options.onEvent({ event: "disconnected", ...this.counts, ...ended });
  }

  /** A worker ended: a front-end that goes on would wait for its rings for ever. */
  #died(error: VhostError): void {
    this.#death ??= error;
    this.#channel.close();
  }

  /**
   * A worker that is held up for longer than any turn takes may hang in an eventfd; one that never
   * answers is ended, and the session with it.
   */
  #unblock(backend: Backend | undefined): void {
    const busyMs = performance.now() - this.#busySince;
    if (busyMs > BUSY_MS_MAX) backend?.unblock();
    if (busyMs > ANSWER_MS_MAX) this.#giveUp();
  }

  #makeBackend(dev: VhostDev): Backend {
    const { onEvent, trust } = this.#options;
    return new Backend(dev, {
      trust,
      onUnusable: (queue, error) => onEvent({ event: "ring-unusable", queue, error }),
    });
  }

  #announce({ task }: Peer, dev: VhostDev): void {
    const { pid, comm, cred } = task;
    const { uid, gid } = cred;
    const worker = dev.worker.task.task.comm;
    this.#options.onEvent({ event: "connected", pid, uid, gid, comm, worker });
  }

  /** Answers messages until the front-end goes; gives what ended it before that. */
  async #converse(backend: Backend): Promise<{ error?: VhostError }> {
    let error: VhostError | undefined;
    try {
      for (;;) {
        const message = await this.#channel.receive();
        if (!message) break;
        this.#busySince = performance.now();
        await this.#answer(backend, message).finally(() => closeAll(message.fds));
        this.#busySince = Number.POSITIVE_INFINITY;
        await nextTurn(); // however fast it talks, others get their turn
      }
      if (!this.#isEnding) error = this.#death;
    } catch (reason) {
      if (!this.#isEnding) error = asVhostError(reason);
    }
    return error ? { error } : {};
  }

  /** Answers one message. Throws when the connection can't go on. */
  async #answer(backend: Backend, message: Message): Promise<void> {
    const { request, needsReply } = message;
    const type = requestType(request);
    let failure: VhostError | undefined;
    let answer: Reply | undefined;
    try {
      checkShape(backend, type, message);
      answer = await type.run(backend, message);
    } catch (error) {
      failure = asVhostError(error);
      this.#refused(type?.name ?? `request ${request}`, failure);
    }
    const isAcked = needsReply && backend.hasProtocolFeature(VHOST_USER_PROTOCOL_F_REPLY_ACK);
    if (answer) this.#reply(request, answer);
    else if (failure && request === VHOST_USER_REQUESTS.GET_CONFIG) {
      this.#channel.reply(request, new Uint8Array(0));
    } else if (isAcked && !type?.hasAnswer) {
      this.#channel.reply(request, new Uint8Array(BigUint64Array.of(failure ? 1n : 0n).buffer));
    } else if (failure) throw failure;
  }

  #reply(request: number, { payload, fd }: Reply): void {
    const fds = fd === undefined ? [] : [fd];
    try {
      this.#channel.reply(request, payload, fds);
    } finally {
      closeAll(fds);
    }
  }

  #refused(request: string, error: VhostError): void {
    if (this.#isEnding) return;
    this.#options.onEvent({ event: "refused", request, error });
    if (this.#death) throw this.#death;
    if (++this.#refusals <= REFUSALS_MAX) return;
    throw new VhostError("EPROTO", `more than ${REFUSALS_MAX} requests were refused`);
  }

  /** What the device has done. */
  get counts(): QueueCounts {
    return this.#worker?.counters.total() ?? { requests: 0, bytes: 0, failures: 0 };
  }
}

/** An eventfd of ours that ends the worker's sleep; a wake-up after its end does nothing. */
class WakeEventfd {
  readonly fd = makeEventfd();
  #isOpen = true;

  wake(): void {
    if (this.#isOpen) signalEventfd(this.fd);
  }

  close(): void {
    this.#isOpen = false;
    closeFd(this.fd);
  }
}

/** Eventfds for kicks, calls and waking; `wakes` gets those of ours, to close in the end. */
function notifierOf(peer: Peer, wakes: WakeEventfd[], asOwner: boolean): NotifierSpec {
  const { task, identity } = peer;
  const wake = new WakeEventfd();
  wakes.push(wake);
  const options: EventfdNotifierOptions = {
    wakeFd: wake.fd,
    comm: `vhost-${task.pid}`,
    identity: asOwner ? identity : undefined,
  };
  const module = new URL("./eventfd-notifier.js", import.meta.url).href;
  const another = () => notifierOf(peer, wakes, asOwner);
  return { module, options, wake: () => wake.wake(), wakeFd: wake.fd, another };
}

/** Throws EINVAL or EOPNOTSUPP for a message that is not what its request should look like. */
function checkShape(
  backend: Backend,
  type: RequestType | undefined,
  { request, payload, fds }: Message,
): asserts type is RequestType {
  if (!type) throw new VhostError("EOPNOTSUPP", `request ${request} is not known here`);
  const { name, bytes, fds: count, feature } = type;
  if (feature !== undefined && !backend.hasProtocolFeature(feature)) {
    throw new VhostError("EOPNOTSUPP", `${name} needs a protocol feature that was not accepted`);
  }
  const { byteLength } = payload;
  if (byteLength < bytes[0] || byteLength > bytes[1]) {
    throw new VhostError("EINVAL", `${name} has no payload of ${byteLength} bytes`);
  }
  if (fds.length >= count[0] && fds.length <= count[1]) return;
  throw new VhostError("EINVAL", `${name} does not come with ${fds.length} descriptors`);
}
