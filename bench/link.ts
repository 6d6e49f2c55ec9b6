// A ring between two threads: the driver in this one, the device in a peer. Both spin.

import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import type { RingKind } from "#dist/ring/load.js";
import type { Loop } from "./cycle.js";
import type { Work } from "./harness.js";
import { BenchMemory, type PairShape, RingPair } from "./pair.js";
import { GATE_ABORT, GATE_READY, SPINS_PER_LOOK } from "./threads-gate.js";
import type { BufferMessage, PeerOrder, PeerSetup } from "./threads-worker.js";

/** An evaluation of the timed loops for one ring alone. */
export type Cycles = typeof import("./cycle.js");

/** Nothing takes so long; what does is given up. */
const TIMEOUT_MS = 30_000;

/** The other thread, asleep until it gets an order. */
export class Peer implements AsyncDisposable {
  readonly port: MessagePort;
  readonly gate = new Int32Array(new SharedArrayBuffer(8));
  readonly #worker: Worker;
  readonly #failed: Promise<never>;

  constructor(ring?: PeerSetup["ring"]) {
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    const workerData: PeerSetup = { port: port2, gate: this.gate, ...(ring && { ring }) };
    const url = new URL("./threads-worker.js", import.meta.url);
    this.#worker = new Worker(url, { workerData, transferList: [port2] });
    this.#failed = new Promise((_, reject) => {
      this.#worker.on("error", reject);
      this.#worker.on("exit", (code) => reject(new Error(`the other thread ended: ${code}`)));
    });
    this.#failed.catch(() => {}); // told by whoever waits for `reply`
  }

  /** Sends an order and waits until the other thread has it, so that no wake-up is timed. */
  async order(order: PeerOrder): Promise<void> {
    Atomics.store(this.gate, GATE_READY, 0);
    this.port.postMessage(order);
    const ready = async () => {
      while (Atomics.load(this.gate, GATE_READY) === 0) await new Promise(setImmediate);
    };
    await Promise.race([ready(), this.#failed]);
  }

  /** The next message that is not an echo. */
  reply(onEcho?: (message: BufferMessage) => void): Promise<number> {
    const answer = new Promise<number>((resolve) => {
      this.port.on("message", (message: number | BufferMessage) => {
        if (typeof message !== "number") return onEcho?.(message);
        this.port.removeAllListeners("message");
        resolve(message);
      });
    });
    return Promise.race([answer, this.#failed]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    Atomics.store(this.gate, GATE_ABORT, 1);
    this.port.close();
    await this.#worker.terminate();
  }
}

/** What a sample is: chains there and back, so many in flight at most, in bursts of so many. */
export interface LinkAmount {
  count: number;
  depth: number;
  burst: number;
}

/** The driver's half. Spins. */
function drive({ describe, collect }: Cycles, loop: Loop, amount: LinkAmount): number {
  const { count, depth, burst } = amount;
  const { driver, driverTables } = loop;
  const deadline = performance.now() + TIMEOUT_MS;
  let sum = 0;
  let added = 0;
  let idle = 0;
  for (let back = 0; back < count; ) {
    const want = Math.min(burst, depth - (added - back), count - added);
    if (want > 0) {
      describe(loop, want);
      added += driver.addBufs(want);
      driver.publish();
      driver.kickNeeded(); // a kick would be sent here; both sides spin
    }
    const got = driver.getBufs(burst);
    if (got === 0 && ++idle % SPINS_PER_LOOK === 0 && performance.now() > deadline) {
      throw new Error(`${back} of ${count} came back within ${TIMEOUT_MS} ms`);
    }
    sum = (sum + collect(driverTables, got, 0)) | 0;
    back += got;
  }
  return sum;
}

/** Which ring. */
export interface LinkShape extends Pick<PairShape, "format" | "inOrder" | "pieces"> {
  name: string;
  kind: RingKind;
}

/** A ring between this thread and a peer. */
export class RingLink implements AsyncDisposable {
  readonly #pair: RingPair;
  readonly #peer: Peer;
  readonly #shape: LinkShape;
  readonly #cycles: Cycles;

  private constructor(shape: LinkShape, num: number, cycles: Cycles) {
    const memory = new BenchMemory(); // its own: no false sharing between two links
    const { kind, format, inOrder, pieces } = shape;
    const whole = { num, pieces, indirect: false, regionCount: 1, format, inOrder };
    this.#pair = new RingPair(memory, memory.rings(kind), whole);
    this.#peer = new Peer({ memory: memory.shared.memory, vq: this.#pair.device.vq, kind });
    this.#shape = shape;
    this.#cycles = cycles;
  }

  /** A ring of `num` entries, with an evaluation of the loops for it alone, here and there. */
  static async make(shape: LinkShape, num: number): Promise<RingLink> {
    const url = new URL(`./cycle.js?link ${encodeURIComponent(shape.name)}`, import.meta.url).href;
    return new RingLink(shape, num, (await import(url)) as Cycles);
  }

  /** A sample. Milliseconds. */
  work(amount: LinkAmount): Work {
    const { name, pieces } = this.#shape;
    const loop: Loop = { ...this.#pair, pieces, next: 0 };
    const { count, burst, depth } = amount;
    let sum = 0;
    const run = async () => {
      loop.next = 0;
      const reply = this.#peer.reply();
      await this.#peer.order({ count, burst, isPingPong: depth === 1 });
      const start = performance.now();
      sum = (sum + drive(this.#cycles, loop, amount)) | 0;
      const ms = performance.now() - start;
      sum = (sum + (await reply)) | 0;
      return ms;
    };
    return { name, isAsync: true, run, checksum: () => sum };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#peer[Symbol.asyncDispose]();
  }
}
