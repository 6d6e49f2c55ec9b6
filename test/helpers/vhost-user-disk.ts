// A block driver over a vhost-user front-end's queue: kicks and calls by eventfds, as real ones do.

import type { FrontEnd, FrontQueue } from "#dist/bench/front-end.js";
import { drainEventfd, signalEventfd } from "#dist/linux/eventfd.js";
import { Readiness } from "#dist/linux/readiness.js";
import { descBytes, deviceAreaBytes, driverAreaBytes } from "#dist/memory/vring.js";
import { loadRings } from "#dist/ring/load.js";
import { allocDriverState } from "#dist/ring/state-block.js";
import { RingTables } from "#dist/ring/tables.js";
import {
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "#dist/spec/virtio-blk.js";
import { blkHeader } from "./blk-raw.js";
import type { SleepWatch } from "./threads.js";

/** One request: `data` to write, or `length` bytes to read. */
export interface DiskRequest {
  type: number;
  sector?: number;
  data?: Uint8Array;
  length?: number;
}

/** What came of it. */
export interface DiskAnswer {
  status: number;
  used: number;
  data: Uint8Array;
}

const HEADER_BYTES = 16;
/** Of a slot: the header, the status, then the data. */
const STATUS_AT = 16;
const DATA_AT = 512;

/** Who waits for longer, in milliseconds, may look what keeps the other side. */
const SOON_MS = 50;
/** Nobody waits for longer, in milliseconds. */
const SPIN_MS_MAX = 20_000;

/** Descriptors of one request. */
const PIECES = 3;

/** A disk behind one queue. */
export class FrontDisk {
  readonly front: FrontEnd;
  readonly queue: FrontQueue;
  /** Requests at a time. */
  readonly slots: number;
  readonly #slotBytes: number;
  readonly #start: number;
  #calls: Readiness | undefined;
  /** Kicks that were sent, and calls that were slept for. */
  kicks = 0;
  sleeps = 0;

  /** `queue` is set up; `dataBytes` is the most that a request moves. */
  constructor(front: FrontEnd, queue: FrontQueue, slots = 8, dataBytes = 4096) {
    this.front = front;
    this.queue = queue;
    this.slots = slots;
    this.#slotBytes = DATA_AT + dataBytes;
    this.#start = front.shared.allocGuest(slots * this.#slotBytes, 4096);
  }

  /** Writes at an offset of whole sectors. */
  async write(offset: number, data: Uint8Array): Promise<void> {
    await this.#must({ type: VIRTIO_BLK_T_OUT, sector: offset / 512, data });
  }

  /** Reads from an offset of whole sectors. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    return (await this.#must({ type: VIRTIO_BLK_T_IN, sector: offset / 512, length })).data;
  }

  async flush(): Promise<void> {
    await this.#must({ type: VIRTIO_BLK_T_FLUSH });
  }

  async #must(request: DiskRequest): Promise<DiskAnswer> {
    const [answer] = await this.batch([request]);
    if (answer?.status !== VIRTIO_BLK_S_OK) throw new Error(`status ${answer?.status}`);
    return answer;
  }

  /** Does so many requests, at most `slots`, at once: one kick, then all answers, in order. */
  async batch(requests: readonly DiskRequest[]): Promise<DiskAnswer[]> {
    this.offer(requests);
    return this.collect(requests);
  }

  /** Makes requests available, and kicks if the device asked for it, or not at all. */
  offer(requests: readonly DiskRequest[], mayKick = true): void {
    const { ring } = this.queue;
    for (const [slot, request] of requests.entries()) this.#describe(slot, request);
    if (ring.addBufs(requests.length) !== requests.length) throw new Error("the ring is full");
    ring.publish();
    if (!ring.kickNeeded() || !mayKick) return;
    this.kicks++;
    signalEventfd(this.queue.kickFd);
  }

  #describe(slot: number, { type, sector = 0, data, length = 0 }: DiskRequest): void {
    const { shared } = this.front;
    const { tables } = this.queue;
    const at = this.#start + slot * this.#slotBytes;
    shared.bytes.set(blkHeader(type, sector), at);
    shared.bytes[at + STATUS_AT] = 0xff;
    if (data) shared.bytes.set(data, at + DATA_AT);
    else shared.bytes.fill(0xaa, at + DATA_AT, at + DATA_AT + length);
    const bytes = data?.length ?? length;
    const hasData = bytes > 0;
    const first = slot * PIECES;
    tables.setIov(first, at, HEADER_BYTES);
    if (hasData) tables.setIov(first + 1, at + DATA_AT, bytes);
    tables.setIov(first + (hasData ? 2 : 1), at + STATUS_AT, 1);
    const out = data && hasData ? 2 : 1;
    tables.setChain(slot, first, out, hasData && !data ? 2 : 1);
  }

  /** Waits for the answers, by calls alone. The device does requests in order. */
  async collect(requests: readonly DiskRequest[]): Promise<DiskAnswer[]> {
    const { ring, tables } = this.queue;
    const used: number[] = [];
    while (used.length < requests.length) {
      const got = ring.getBufs(requests.length - used.length);
      if (got < 0) throw new Error(`used ring: ${got}`);
      for (let i = 0; i < got; i++) used.push(tables.usedBytes(i));
      if (used.length < requests.length) await this.#sleep();
    }
    return requests.map((request, slot) => this.#answer(slot, request, used[slot] as number));
  }

  /**
   * Does them without sleeping or calls: looks at the used ring until all are there. Throws when
   * `worker`, which is to do them, was not woken.
   */
  spin(requests: readonly DiskRequest[], worker?: SleepWatch): DiskAnswer[] {
    this.queue.ring.disableCall();
    this.offer(requests);
    worker?.begin();
    const used: number[] = [];
    for (const began = performance.now(); used.length < requests.length; ) {
      const got = this.queue.ring.getBufs(requests.length - used.length);
      const waitedMs = performance.now() - began;
      if (got < 0 || waitedMs > SPIN_MS_MAX) throw new Error(`used ring: ${got}`);
      if (got === 0 && waitedMs > SOON_MS) worker?.mustBeAwake();
      for (let i = 0; i < got; i++) used.push(this.queue.tables.usedBytes(i));
    }
    return requests.map((request, slot) => this.#answer(slot, request, used[slot] as number));
  }

  async #sleep(): Promise<void> {
    if (this.queue.ring.enableCall()) return;
    this.sleeps++;
    this.#calls = new Readiness(this.queue.callFd);
    const isCalled = await this.#calls.wait();
    this.#calls.close();
    if (!isCalled) throw new Error("the disk was closed");
    drainEventfd(this.queue.callFd);
  }

  #answer(slot: number, { data, length = 0 }: DiskRequest, used: number): DiskAnswer {
    const { bytes } = this.front.shared;
    const at = this.#start + slot * this.#slotBytes;
    const start = at + DATA_AT;
    const read = data ? new Uint8Array(0) : bytes.slice(start, start + length);
    return { status: bytes[at + STATUS_AT] as number, used, data: new Uint8Array(read) };
  }

  /** Ends a wait that is under way. Before the front-end is closed. */
  close(): void {
    this.#calls?.close();
  }
}

/** A queue whose chains are indirect tables of `capacity` entries; nothing is sent. */
export function makeIndirectQueue(
  front: FrontEnd,
  index: number,
  num: number,
  capacity = 4,
): FrontQueue {
  const { shared, features } = front;
  const areas = {
    desc: shared.allocGuest(descBytes(num), 4096),
    driver: shared.allocGuest(driverAreaBytes(num), 4096),
    device: shared.allocGuest(deviceAreaBytes(num), 4096),
  };
  const address = shared.allocGuest(num * capacity * 16, 16);
  const { vq } = allocDriverState(shared, { num, ...areas, features }, { address, capacity });
  const ring = loadRings(shared.memory).driver(vq);
  ring.reset();
  const [kickFd, callFd, errFd] = [front.eventfd(), front.eventfd(), front.eventfd()];
  const tables = new RingTables(shared.memory, vq);
  return { index, num, ring, tables, areas, kickFd, callFd, errFd };
}
