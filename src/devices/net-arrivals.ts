import { VIRTIO_NET_HDR_BYTES } from "../spec/virtio-net.js";
import type { NetFilter } from "./net-filter.js";
import type { NetFlows } from "./net-flows.js";
import { NetPipe, netPipeBytes } from "./net-pipe.js";
import type { NetPort } from "./net-port.js";
import type { NetBurst } from "./net-stage.js";

/** Bytes of packets that may wait for one pair. */
const PIPE_BYTES = 1 << 20;
/** Packets that are sorted at once, at most. */
const SORT_MAX = 256;

/**
 * Packets to the guest, for each pair of queues those that are its. With one pair and a driver that
 * takes all, they are the port's; else they are copied from there, the driver's filters and the
 * flows obeyed, to a pipe of each pair: one whose queue has no buffers holds nobody up, and loses
 * what its pipe has no room for. Worker's thread.
 */
export class NetArrivals {
  readonly #port: NetPort;
  readonly #filter: NetFilter;
  readonly #flows: NetFlows;
  /** Whether the pair's receive queue runs. */
  readonly #runs: (pair: number) => boolean;
  readonly #pipes: (NetPipe | undefined)[] = [];
  #pairs = 1;

  constructor(port: NetPort, filter: NetFilter, flows: NetFlows, runs: (pair: number) => boolean) {
    this.#port = port;
    this.#filter = filter;
    this.#flows = flows;
    this.#runs = runs;
  }

  /** How many pairs there are packets for: those below it. */
  get pairs(): number {
    return this.#pairs;
  }

  /** What the others had of more is void. */
  setPairs(pairs: number): void {
    this.#pairs = pairs;
    for (let pair = pairs; pair < this.#pipes.length; pair++) this.#empty(pair);
  }

  #empty(pair: number): void {
    const pipe = this.#pipes[pair];
    while (pipe?.peek()) this.drop(pair, false);
  }

  /** Whether packets are taken from the port as they are there. */
  get #isDirect(): boolean {
    const isSimple = this.#pairs === 1 && this.#filter.isPromiscuous;
    return isSimple && (this.#pipes[0]?.isEmpty ?? true);
  }

  /** Sorts what the port has: a bounded amount. */
  sort(): void {
    if (this.#isDirect) return;
    const port = this.#port;
    for (let left = SORT_MAX; left > 0; left--) {
      const packet = port.peek();
      if (!packet) return;
      const frameAt = packet.at + VIRTIO_NET_HDR_BYTES;
      const frameBytes = packet.length - VIRTIO_NET_HDR_BYTES;
      if (this.#filter.takes(packet.bytes, frameAt, frameBytes)) {
        const pair = this.#pairOf(packet.bytes, frameAt, frameBytes);
        if (pair < 0) return;
        const isMoved = this.#move(packet, pair);
        if (!isMoved && this.#pairs === 1) return; // the port keeps it
        port.drop(isMoved ? undefined : false);
      } else {
        port.drop();
        port.ended?.("refused", frameBytes);
      }
    }
  }

  /** The flow's pair; if that has no queue that runs, the next that has one; -1: there is none. */
  #pairOf(bytes: Uint8Array, at: number, length: number): number {
    const pairs = this.#pairs;
    const wanted = pairs > 1 ? this.#flows.pairOf(bytes, at, length, pairs) : 0;
    for (let i = 0; i < pairs; i++) {
      const pair = (wanted + i) % pairs;
      if (this.#runs(pair)) return pair;
    }
    return -1;
  }

  #move({ bytes, at, length }: NetPipe, pair: number): boolean {
    this.#pipes[pair] ??= new NetPipe(new SharedArrayBuffer(netPipeBytes(PIPE_BYTES)), PIPE_BYTES);
    const pipe = this.#pipes[pair] as NetPipe;
    const to = pipe.begin(length);
    if (to < 0) return false;
    pipe.bytes.set(bytes.subarray(at, at + length), to);
    pipe.end();
    return true;
  }

  /** Up to `max` packets wait for the pair: how many. */
  count(pair: number, max: number): number {
    if (this.#isDirect) return pair === 0 ? this.#port.count(max) : 0;
    return this.#pipes[pair]?.count(max) ?? 0;
  }

  /** The pair's next packet, by the pipe that shows it. */
  peek(pair: number): NetPipe | undefined {
    if (this.#isDirect) return pair === 0 ? this.#port.peek() : undefined;
    const pipe = this.#pipes[pair];
    return pipe?.peek() ? pipe : undefined;
  }

  /** As `NetPort.put`, of the pair's packets. */
  put(pair: number, burst: NetBurst): number {
    const isDirect = this.#isDirect && pair === 0;
    return isDirect ? (this.#port.put?.(burst) ?? 0) : 0;
  }

  /** The pair's next packet is done with; `isDelivered`: the guest has it. */
  drop(pair: number, isDelivered: boolean): void {
    if (this.#isDirect && pair === 0) {
      this.#port.drop(isDelivered);
      return;
    }
    const pipe = this.#pipes[pair] as NetPipe;
    this.#port.ended?.(isDelivered ? "delivered" : "discarded", pipe.length - VIRTIO_NET_HDR_BYTES);
    pipe.drop();
  }

  /** What was sorted is void. */
  empty(): void {
    for (let pair = 0; pair < this.#pipes.length; pair++) this.#empty(pair);
  }

  /** As before any driver: all that waits is void. */
  reset(): void {
    this.empty();
    this.#pairs = 1;
    this.#port.reset();
  }
}
