import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import type { RingKind } from "#dist/ring/load.js";
import type { Loop } from "./cycle.js";
import { type Case, compare, type Work } from "./harness.js";
import { BenchMemory, RingPair } from "./pair.js";
import { GATE_ABORT, GATE_READY, SPINS_PER_LOOK } from "./threads-gate.js";
import type { BufferMessage, PeerOrder, PeerSetup } from "./threads-worker.js";

type Cycles = typeof import("./cycle.js");

/** What is inside the timed part. */
export const THREADS_NOTE = `Two threads: the driver in this one, the device in another, both \
spinning; EVENT_IDX on, chains of 1. Needs two cores for itself: on a busy machine both wait for
their turn instead, and the numbers mean little.
through    as many in flight as the ring of 512 holds: from the first addBufs to the last getBufs,
           records and iovecs written and read as in the ring bench; a buffer goes there and back
MessagePort, through: postMessage({id, len}) one way, from the first to the answer after the last
ping-pong  one in flight: a buffer, or a message, there and back`;

const NUM = 512;
const BURST = 128;
/** Nothing takes so long; what does is given up. */
const TIMEOUT_MS = 30_000;

/** The other thread, asleep until it gets an order. */
class Peer implements AsyncDisposable {
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

/** The driver's half: `count` chains there and back, at most `depth` in flight. Spins. */
function drive({ describe, collect }: Cycles, loop: Loop, count: number, depth: number): number {
  const { driver, driverTables } = loop;
  const deadline = performance.now() + TIMEOUT_MS;
  let sum = 0;
  let added = 0;
  let idle = 0;
  for (let back = 0; back < count; ) {
    const want = Math.min(BURST, depth - (added - back), count - added);
    if (want > 0) {
      describe(loop, want);
      added += driver.addBufs(want);
      driver.publish();
      driver.kickNeeded(); // a kick would be sent here; both sides spin
    }
    const got = driver.getBufs(BURST);
    if (got === 0 && ++idle % SPINS_PER_LOOK === 0 && performance.now() > deadline) {
      throw new Error(`${back} of ${count} came back within ${TIMEOUT_MS} ms`);
    }
    sum = (sum + collect(driverTables, got, 0)) | 0;
    back += got;
  }
  return sum;
}

/** A ring between this thread and a peer. */
class RingLink implements AsyncDisposable {
  readonly #pair: RingPair;
  readonly #peer: Peer;
  readonly #kind: RingKind;
  readonly #cycles: Cycles;

  constructor(kind: RingKind, cycles: Cycles) {
    const memory = new BenchMemory(); // its own: no false sharing between two links
    const shape = {
      num: NUM,
      pieces: 1,
      indirect: false,
      regionCount: 1,
      format: "split",
      inOrder: false,
    } as const;
    this.#pair = new RingPair(memory, memory.rings(kind), shape);
    this.#peer = new Peer({ memory: memory.shared.memory, vq: this.#pair.device.vq, kind });
    this.#kind = kind;
    this.#cycles = cycles;
  }

  /** A sample of `count` chains, `depth` in flight. Milliseconds. */
  work(count: number, depth: number): Work {
    const loop: Loop = { ...this.#pair, pieces: 1, next: 0 };
    let sum = 0;
    const run = async () => {
      loop.next = 0;
      const reply = this.#peer.reply();
      await this.#peer.order({ count, isPingPong: depth === 1 });
      const start = performance.now();
      sum = (sum + drive(this.#cycles, loop, count, depth)) | 0;
      const ms = performance.now() - start;
      sum = (sum + (await reply)) | 0;
      return ms;
    };
    return { name: this.#kind, isAsync: true, run, checksum: () => sum };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#peer[Symbol.asyncDispose]();
  }
}

/** A sample of `count` messages, one way, or one at a time and back. */
function messageWork(peer: Peer, count: number, isPingPong: boolean): Work {
  let sum = 0;
  const run = async () => {
    let id = 0;
    const send = () => peer.port.postMessage({ id: id++, len: 4096 } satisfies BufferMessage);
    const reply = peer.reply(() => {
      if (id < count) send();
    });
    await peer.order({ count, isPingPong });
    const start = performance.now();
    if (isPingPong) send();
    else while (id < count) send();
    sum = (sum + (await reply)) | 0;
    return performance.now() - start;
  };
  return { name: "MessagePort", isAsync: true, items: count, run, checksum: () => sum };
}

/** Items of each kind a sample: messages are slow, so they get fewer. */
export interface ThreadsAmount {
  rounds: number;
  buffers: number;
  messages: number;
  pingPongBuffers: number;
  pingPongMessages: number;
}

/** Buffers a second between two threads. Ends by itself; the other threads are gone after it. */
export async function benchThreads(amount: ThreadsAmount): Promise<Case[]> {
  const load = (kind: RingKind) => import(new URL(`./cycle.js?${kind}`, import.meta.url).href);
  await using wasm = new RingLink("wasm", (await load("wasm")) as Cycles);
  await using ts = new RingLink("ts", (await load("ts")) as Cycles);
  await using peer = new Peer();
  const run = async (name: string, depth: number, buffers: number, messages: number) => {
    const works = [
      wasm.work(buffers, depth),
      ts.work(buffers, depth),
      messageWork(peer, messages, depth === 1),
    ];
    const measured = await compare(works, { rounds: amount.rounds, samples: 1, items: buffers });
    return { bench: "threads", name, facts: { depth }, sameWork: ["wasm", "ts"], measured };
  };
  return [
    await run(`through, up to ${NUM} in flight`, NUM, amount.buffers, amount.messages),
    await run("ping-pong, 1 in flight", 1, amount.pingPongBuffers, amount.pingPongMessages),
  ];
}
