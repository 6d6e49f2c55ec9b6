import { setTimeout as sleep } from "node:timers/promises";
import { VhostError } from "../../spec/errno.js";
import { hasFeature } from "../../spec/features.js";
import { checkNames } from "../../spec/options.js";
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
} from "../../spec/virtio-config.js";
import { chooseFeatures, type ProbeOptions } from "../probe.js";
import type { Transport } from "../transport.js";
import { HostileMemory } from "./hostile-memory.js";
import { HOSTILE_NUM_MAX, HOSTILE_QUEUE_BYTES, HostileQueue } from "./hostile-queue.js";
import { goodRequest, type HostileRequest } from "./hostile-request.js";
import type { HostileRing, HostileUsed } from "./hostile-ring.js";
import type { HostileEnding, HostileOutcome, HostileShape } from "./hostile-shape.js";
import type { HostileStage } from "./hostile-stage.js";

/** Entries that the shapes need. */
const NUM_MIN = 16;
const REQUEST_BYTES_MAX = 4096;
const DEVICE_BITS = Array.from({ length: 24 }, (_, bit) => bit);
/** A queue that is refused is looked at this long, in milliseconds: nothing may come back. */
const QUIET_MS = 15;

/** How a hostile driver is made. */
export interface HostileOptions extends Omit<ProbeOptions, "inOrder"> {
  /** Entries of each queue, 16 to 256, a power of two. Default 16. */
  queueSize?: number;
  /** A good request. Default: for a disk a read, for all else 16 bytes to read and 16 to write. */
  request?: HostileRequest;
  /** Milliseconds after which a chain that does not come back is given up. Default 2000. */
  timeoutMs?: number;
}

const OPTIONS = [
  "queueSize",
  "packed",
  "notificationData",
  "withoutFeatures",
  "request",
  "timeoutMs",
];

/** What a shape is played on. */
export interface PlayOptions {
  /** The queue. Default 0. */
  queue?: number;
}

/**
 * A driver that breaks the rules on purpose: it lays its rings out by hand, in a small machine's
 * memory with canaries round every region and every area (`HostileMemory`), plays shapes on them,
 * and looks at what the device makes of each. After a shape it sends a good request. No shape can
 * hold it up longer than some times `timeoutMs`. One thread; one call a queue at a time, and one
 * call at all of what resets the device: `reset`, and shapes that say so (`restarts`,
 * `resetsInFlight`, `refused-setup`).
 */
export class HostileDriver implements AsyncDisposable {
  readonly #transport: Transport;
  readonly #options: HostileOptions;
  readonly #features: bigint;
  readonly #request: HostileRequest;
  /** Where its rings and buffers are, and what the device may reach. */
  readonly memory: HostileMemory;
  #queues: HostileQueue[] = [];
  #death: VhostError | undefined;
  #closed: Promise<void> | undefined;
  /** Calls that have not ended: what they touch is given back after them. */
  readonly #running = new Set<Promise<unknown>>();

  private constructor(transport: Transport, options: HostileOptions) {
    this.#transport = transport;
    this.#options = options;
    this.#request = options.request ?? goodRequest(transport.deviceId);
    const { readable, writableBytes } = this.#request;
    if (!(readable instanceof Uint8Array) || !Number.isSafeInteger(writableBytes)) {
      throw new VhostError("EINVAL", "a request is { readable: a Uint8Array, writableBytes }");
    }
    if (readable.length + writableBytes > REQUEST_BYTES_MAX) {
      throw new VhostError("EINVAL", `a request has at most ${REQUEST_BYTES_MAX} bytes`);
    }
    this.#features = chooseFeatures(transport, DEVICE_BITS, options);
    this.memory = new HostileMemory(transport.shared, transport.queueCount * HOSTILE_QUEUE_BYTES);
  }

  /**
   * Brings the device up. Rejects with EINVAL for a queue size or a request that shapes can't be
   * made of, ENOMEM, ENODEV when the device is gone.
   */
  static async probe(transport: Transport, options: HostileOptions = {}): Promise<HostileDriver> {
    checkNames("a hostile driver", options, OPTIONS);
    const num = options.queueSize ?? NUM_MIN;
    const isSize = num >= NUM_MIN && num <= HOSTILE_NUM_MAX && (num & (num - 1)) === 0;
    if (!isSize || num > transport.queueSizeMax) {
      const range = `${NUM_MIN} to ${HOSTILE_NUM_MAX} entries, a power of two`;
      throw new VhostError("EINVAL", `a hostile driver's queues have ${range}`, { num });
    }
    const driver = new HostileDriver(transport, { ...options, queueSize: num });
    transport.onDeath((error) => {
      driver.#death = error;
    });
    try {
      await driver.reset();
    } catch (error) {
      driver.memory.free();
      throw error;
    }
    return driver;
  }

  /** Negotiated feature bits, as a mask. */
  get features(): bigint {
    return this.#features;
  }

  /** Where a queue's areas are (linear addresses, bytes), and its entries. Throws as `play`. */
  ring(queue = 0): Pick<HostileRing, "areas" | "num"> {
    return this.#queue(queue).ring;
  }

  /** Kicks a queue, for whoever writes to its ring in another way. */
  kick(queue = 0): void {
    this.#transport.kick(queue);
  }

  /** Whether a shape applies to these queues and this device. */
  applies(shape: HostileShape): boolean {
    const { needs = {}, formats } = shape;
    const has = (bit: number, need: boolean | undefined) =>
      need === undefined || need === hasFeature(this.#features, bit);
    return (
      formats.includes(this.#isPacked ? "packed" : "split") &&
      has(VIRTIO_F_INDIRECT_DESC, needs.indirect) &&
      has(VIRTIO_F_EVENT_IDX, needs.eventIdx) &&
      (needs.deviceId === undefined || needs.deviceId === this.#transport.deviceId)
    );
  }

  /**
   * Plays a shape, then a good request; where a refusal stands, the ring is repaired in between,
   * and where that does not help the device is reset. Never rejects for what the device does.
   * Rejects with ENOBUFS (no such queue); EINVAL for what is no shape; ENODEV after `close`, which
   * a device that dies does, too.
   */
  async play(shape: HostileShape, { queue = 0 }: PlayOptions = {}): Promise<HostileOutcome> {
    this.#queue(queue);
    if (!Array.isArray(shape?.formats)) {
      throw new VhostError("EINVAL", "what is played is a shape, such as those of HOSTILE_SHAPES");
    }
    const began = performance.now();
    if (!this.applies(shape)) return outcome(shape, { ending: "skipped", serves: "at-once" });
    const parts = await this.#run(this.#playOn(shape, queue)).catch((error: unknown) => {
      if (!this.#death) throw error;
      return { ending: "died", serves: "never" } as const;
    });
    return { ...outcome(shape, parts), ms: performance.now() - began };
  }

  /** Sends a good request; whether it was served, and answered well. Rejects as `play` does. */
  async request(queue = 0): Promise<boolean> {
    return this.#run(this.#isServed(this.#queue(queue)));
  }

  async #run<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    try {
      return await work;
    } finally {
      this.#running.delete(work);
    }
  }

  /**
   * Resets the device and brings it up again, all queues. Rejects with ENODEV when it is gone.
   */
  reset(): Promise<void> {
    return this.#run(this.#start());
  }

  /** Resets the device and gives the memory back. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    try {
      await this.#transport.setStatus(0);
    } finally {
      await Promise.allSettled(this.#running);
      this.memory.free();
      this.#transport.detach();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  get #isPacked(): boolean {
    return hasFeature(this.#features, VIRTIO_F_RING_PACKED);
  }

  get #timeoutMs(): number {
    return this.#options.timeoutMs ?? 2000;
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new VhostError("ENODEV", "the driver is closed");
  }

  #queue(index: number): HostileQueue {
    this.#mustBeOpen();
    const queue = this.#queues[index];
    if (!queue) throw new VhostError("ENOBUFS", `there is no queue ${index}`);
    return queue;
  }

  /** virtio 1.3, 3.1.1 Driver Requirements: Device Initialization. `odd`: a queue's own layout. */
  async #start(odd?: { shape: HostileShape; queue: number }): Promise<void> {
    const transport = this.#transport;
    const add = async (status: number) => {
      this.#mustBeOpen();
      await transport.setStatus(transport.status | status);
    };
    this.#mustBeOpen();
    await transport.setStatus(0);
    this.memory.clear();
    await add(VIRTIO_CONFIG_S_ACKNOWLEDGE);
    await add(VIRTIO_CONFIG_S_DRIVER);
    transport.setFeatures(this.#features);
    await add(VIRTIO_CONFIG_S_FEATURES_OK);
    transport.setMemTable(this.memory.regions);
    this.#queues = Array.from({ length: transport.queueCount }, (_, index) => {
      const layout = odd?.queue === index ? odd.shape.layout : undefined;
      return new HostileQueue(this.#setupOf(index), layout);
    });
    for (const [index, { areas }] of this.#queues.entries()) transport.setupQueue(index, areas);
    await add(VIRTIO_CONFIG_S_DRIVER_OK);
  }

  #setupOf(index: number) {
    return {
      transport: this.#transport,
      memory: this.memory,
      index,
      num: this.#options.queueSize ?? NUM_MIN,
      isPacked: this.#isPacked,
      hasEventIdx: hasFeature(this.#features, VIRTIO_F_EVENT_IDX),
      request: this.#request,
    };
  }

  async #playOn(shape: HostileShape, queue: number): Promise<Parts> {
    if (shape.expect === "refused-setup") return this.#playSetup(shape, queue);
    if (shape.restarts) await this.#start({ shape, queue });
    const one = this.#queue(queue);
    const stage = one.stage();
    shape.stage?.(stage);
    one.publish();
    if (shape.resetsInFlight) return this.#resetInFlight(queue);
    const isQuiet = shape.expect === "refused-queue";
    const used = await one.collect(isQuiet ? QUIET_MS : this.#timeoutMs, () => this.#isOver);
    if (this.#death) throw this.#death;
    this.#mustBeOpen();
    const parts = this.#judge(shape, one, stage, used);
    const serves = await this.#recover(queue, parts.ending === "refused-queue");
    if (shape.restarts) await this.#start();
    return { ...parts, serves };
  }

  /** Nothing comes back any more. */
  get #isOver(): boolean {
    return this.#death !== undefined || this.#closed !== undefined;
  }

  /** What it ended in, and whether only what may be written was. */
  #judge(shape: HostileShape, one: HostileQueue, stage: HostileStage, used: HostileUsed[]) {
    const isWhole = this.memory.damagedAt === undefined;
    if (one.ring.outstanding > 0 || one.ring.hasLied) {
      const ending = "refused-queue" as const;
      return { ending, isIntact: isWhole && stage.isUnwritten };
    }
    const isEmpty = used.every(({ length }) => length === 0);
    const isRefused = isEmpty && (this.#request.writableBytes > 0 || shape.expect !== "served");
    if (isRefused) {
      return { ending: "refused-chain" as const, isIntact: isWhole && stage.isUnwritten };
    }
    const { written } = stage;
    const isAnswer = shape.isAnswer ?? this.#request.isAnswer ?? (() => true);
    const isAnswerRight = written.length === 0 || isAnswer(written);
    return { ending: "served" as const, isIntact: isWhole, isAnswerRight };
  }

  /** Until the queue serves again: at once, by a repair if it is refused, or by a reset. */
  async #recover(queue: number, isRefused: boolean): Promise<HostileOutcome["serves"]> {
    const one = this.#queue(queue);
    if (isRefused) {
      await one.repair();
      await one.collect(this.#timeoutMs, () => this.#isOver);
    }
    if (await this.#isServed(one)) return isRefused ? "after-repair" : "at-once";
    if (this.#death) throw this.#death;
    await this.#start();
    return (await this.#isServed(this.#queue(queue))) ? "after-reset" : "never";
  }

  async #isServed(one: HostileQueue): Promise<boolean> {
    if (one.ring.outstanding > 0) return false; // its buffers are still the device's
    const stage = one.stage();
    stage.add(...stage.good());
    one.publish();
    const [used] = await one.collect(this.#timeoutMs, () => this.#isOver);
    if (!used || used.length > this.#request.writableBytes) return false;
    return this.#request.isAnswer?.(stage.written) ?? true;
  }

  /** A set-up that must be refused, at the queue or at the start; then a good one. */
  async #playSetup(shape: HostileShape, queue: number): Promise<Parts> {
    const isLate = shape.layout?.whileRunning === true;
    let ending: HostileEnding = "served";
    try {
      if (isLate) this.#setUpAgain(shape, queue);
      else await this.#start({ shape, queue });
    } catch (error) {
      if (!(error instanceof VhostError) || this.#death) throw error;
      ending = "refused-setup";
    }
    if (!isLate) await this.#start();
    return { ending, serves: await this.#recover(queue, false) };
  }

  #setUpAgain({ layout }: HostileShape, queue: number): void {
    const { areas } = this.#queue(queue);
    if (layout) this.#transport.setupQueue(queue, layout.areas(areas, this.memory, areas.desc));
  }

  /** Resets at once; after it not a byte may change. */
  async #resetInFlight(queue: number): Promise<Parts> {
    const one = this.#queue(queue);
    this.#mustBeOpen();
    await this.#transport.setStatus(0);
    const before = one.snapshot();
    await sleep(QUIET_MS);
    const isIntact = one.snapshot().equals(before) && this.memory.damagedAt === undefined;
    await this.#start();
    return { ending: "reset", isIntact, serves: await this.#recover(queue, false) };
  }
}

type Parts = Pick<HostileOutcome, "ending" | "serves"> & Partial<HostileOutcome>;

function outcome(shape: HostileShape, parts: Parts): HostileOutcome {
  const { ending, serves, isAnswerRight = true, isIntact = true } = parts;
  const isServing = serves === (shape.expect === "refused-queue" ? "after-repair" : "at-once");
  const isAsExpected =
    ending === "skipped" || (ending === shape.expect && isServing && isAnswerRight && isIntact);
  return { shape: shape.name, ending, serves, isAnswerRight, isIntact, isAsExpected, ms: 0 };
}
