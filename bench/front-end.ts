// A vhost-user front-end: the driver's side of a device that another program serves. For benches,
// and for tests that need one which does as it is told.
import { ftruncateSync } from "node:fs";
import { makeEventfd, signalEventfd } from "#dist/linux/eventfd.js";
import { check, closeFd, libc } from "#dist/linux/libc.js";
import { mapFile, unmapFile } from "#dist/linux/mapping.js";
import { Readiness } from "#dist/linux/readiness.js";
import { connectUnix, FdSocket } from "#dist/linux/unix-socket.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import { descBytes, deviceAreaBytes, driverAreaBytes } from "#dist/memory/vring.js";
import { loadRings } from "#dist/ring/load.js";
import type { DriverRing } from "#dist/ring/ring.js";
import { allocDriverState } from "#dist/ring/state-block.js";
import { RingTables } from "#dist/ring/tables.js";
import { featureMask, hasFeature } from "#dist/spec/features.js";
import * as wire from "#dist/spec/vhost-user.js";
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED } from "#dist/spec/virtio-config.js";

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const PAGE_BYTES = 65536;
/** Where this front-end says that it has the guest's memory: anywhere, so somewhere odd. */
export const USER_BASE = 0x7fff_1000_0000n;
const RING_ALIGN = 4096;

export type RequestName = keyof typeof wire.VHOST_USER_REQUESTS;

/** u32 values as a payload. */
export const u32s = (...values: number[]): Uint8Array =>
  new Uint8Array(Uint32Array.from(values).buffer);
/** u64 values as a payload. */
export const u64s = (...values: (bigint | number)[]): Uint8Array =>
  new Uint8Array(BigUint64Array.from(values.map(BigInt)).buffer);

const joined = (...parts: Uint8Array[]) => new Uint8Array(Buffer.concat(parts));

/** A message of the back-end. */
export interface Reply {
  request: number;
  flags: number;
  payload: DataView;
}

/** A queue that is set up: the driver's ring, its tables, its eventfds. */
export interface FrontQueue {
  index: number;
  num: number;
  ring: DriverRing;
  tables: RingTables;
  /** Linear addresses of its areas. */
  areas: { desc: number; driver: number; device: number };
  kickFd: number;
  callFd: number;
  errFd: number;
}

/** A memory file of `bytes` bytes, zeroes. */
export function makeMemfd(bytes: number, flags = MFD_CLOEXEC | MFD_ALLOW_SEALING): number {
  const fd = check(libc().memfd_create("front-end", flags), "no memfd could be made");
  ftruncateSync(fd, bytes);
  return fd;
}

const OPT_IN_FEATURES = featureMask(VIRTIO_F_RING_PACKED, VIRTIO_F_IN_ORDER);

/** One connection, with a guest's memory of its own. */
export class FrontEnd implements Disposable {
  readonly shared: SharedMemory;
  readonly memfd: number;
  readonly socket: FdSocket;
  readonly #readiness: Readiness;
  readonly #fds: number[] = [];
  /** Descriptors that came with messages, in order: whoever takes one out closes it. */
  readonly received: number[] = [];
  #isOpen = true;
  features = 0n;
  protocolFeatures = 0n;

  /**
   * Connects to `at`, a path, with so much memory, part of which is the guest's. A number is a
   * connection that there is, from now on the front-end's.
   */
  constructor(at: string | number, memoryBytes = 16 << 20) {
    this.socket = new FdSocket(typeof at === "string" ? connectUnix(at) : at);
    this.#readiness = new Readiness(this.socket.fd);
    const pages = memoryBytes / PAGE_BYTES;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.shared = SharedMemory.of(memory);
    const { guestStart, guestBytes } = this.shared;
    this.memfd = makeMemfd(guestBytes);
    mapFile(memory, guestStart, guestBytes, this.memfd, 0);
  }

  /** Sends a request as it is. */
  send(
    request: RequestName | number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
    flags: number = wire.VHOST_USER_VERSION,
  ): void {
    const number = typeof request === "number" ? request : wire.VHOST_USER_REQUESTS[request];
    this.socket.send(joined(u32s(number, flags, payload.length), payload), fds);
  }

  /** The next message; `undefined` when the back-end has closed the connection. */
  async receive(): Promise<Reply | undefined> {
    const header = await this.#read(wire.VHOST_USER_HEADER_BYTES);
    if (!header) return undefined;
    const payload = await this.#read(header.getUint32(8, true));
    if (!payload) return undefined;
    return { request: header.getUint32(0, true), flags: header.getUint32(4, true), payload };
  }

  async #read(bytes: number): Promise<DataView | undefined> {
    const target = new Uint8Array(new ArrayBuffer(bytes));
    for (let done = 0; done < bytes; ) {
      const got = this.#receive(target.subarray(done));
      if (got === 0) return undefined;
      if (got === undefined) await this.#readiness.wait();
      else done += got;
    }
    return new DataView(target.buffer);
  }

  /** What came, 0 when the other end is gone. */
  #receive(into: Uint8Array): number | undefined {
    try {
      const got = this.socket.receive(into);
      this.received.push(...(got?.fds ?? []));
      return got?.bytes;
    } catch {
      return 0; // reset, with something of ours unread
    }
  }

  /** Asks for something; the payload of the answer. Rejects when the connection ends. */
  async ask(request: RequestName, payload?: Uint8Array): Promise<DataView> {
    this.send(request, payload);
    const reply = await this.receive();
    if (!reply) throw new Error(`${request}: the back-end closed the connection`);
    return reply.payload;
  }

  /** Sends a request that is to be acknowledged; whether it was, with success. */
  async tell(
    request: RequestName | number,
    payload?: Uint8Array,
    fds?: readonly number[],
  ): Promise<boolean> {
    this.send(request, payload, fds, wire.VHOST_USER_VERSION | wire.VHOST_USER_NEED_REPLY);
    const reply = await this.receive();
    if (!reply) throw new Error(`${request}: the back-end closed the connection`);
    return reply.payload.getBigUint64(0, true) === 0n;
  }

  /** Like `tell`, but rejects when it was refused. */
  async must(request: RequestName, payload?: Uint8Array, fds?: readonly number[]): Promise<void> {
    if (!(await this.tell(request, payload, fds))) throw new Error(`${request} was refused`);
  }

  /**
   * Accepts `wanted` of what is offered, and of the protocol features those that we know. Packed
   * rings and IN_ORDER only when `optIn` names them.
   */
  async negotiate(wanted: bigint, optIn = 0n): Promise<void> {
    const offered = (await this.ask("GET_FEATURES")).getBigUint64(0, true);
    const known = [
      wire.VHOST_USER_PROTOCOL_F_LOG_SHMFD,
      wire.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
      wire.VHOST_USER_PROTOCOL_F_MQ,
      wire.VHOST_USER_PROTOCOL_F_RARP,
      wire.VHOST_USER_PROTOCOL_F_REPLY_ACK,
      wire.VHOST_USER_PROTOCOL_F_CONFIG,
      wire.VHOST_USER_PROTOCOL_F_RESET_DEVICE,
      wire.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
      wire.VHOST_USER_PROTOCOL_F_STATUS,
    ].reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);
    const protocol = (await this.ask("GET_PROTOCOL_FEATURES")).getBigUint64(0, true);
    this.protocolFeatures = protocol & known;
    this.send("SET_PROTOCOL_FEATURES", u64s(this.protocolFeatures));
    await this.must("SET_OWNER");
    this.features = offered & ((wanted & ~OPT_IN_FEATURES) | optIn);
    const bit30 = 1n << BigInt(wire.VHOST_USER_F_PROTOCOL_FEATURES);
    await this.must("SET_FEATURES", u64s(this.features | bit30));
  }

  /** The one region: guest address, size, our address, offset in the file. */
  region(): Uint8Array {
    const { guestStart, guestBytes } = this.shared;
    return u64s(this.shared.toGuest(guestStart), guestBytes, USER_BASE, 0);
  }

  /** Hands over the memory. */
  async setMemory(): Promise<void> {
    await this.must("SET_MEM_TABLE", joined(u32s(1, 0), this.region()), [this.memfd]);
  }

  /** Our own address of a linear one in the guest's memory. */
  toUser(address: number): bigint {
    return USER_BASE + BigInt(address - this.shared.guestStart);
  }

  /** Sets up a queue, enables it, and kicks it once, as drivers do. */
  async startQueue(index: number, num: number): Promise<FrontQueue> {
    const queue = this.makeQueue(index, num);
    await this.attach(queue);
    signalEventfd(queue.kickFd);
    return queue;
  }

  /** A queue of our side: memory, state, eventfds. Nothing is sent. */
  makeQueue(index: number, num: number): FrontQueue {
    const { shared, features } = this;
    const areas = {
      desc: shared.allocGuest(descBytes(num), RING_ALIGN),
      driver: shared.allocGuest(driverAreaBytes(num), RING_ALIGN),
      device: shared.allocGuest(deviceAreaBytes(num), RING_ALIGN),
    };
    const { vq } = allocDriverState(shared, { num, ...areas, features });
    const ring = loadRings(shared.memory).driver(vq);
    ring.reset();
    const [kickFd, callFd, errFd] = [this.eventfd(), this.eventfd(), this.eventfd()];
    const tables = new RingTables(shared.memory, vq);
    return { index, num, ring, tables, areas, kickFd, callFd, errFd };
  }

  /** A packed ring begins with both wrap counters 1. */
  get #firstBase(): number {
    return this.has(VIRTIO_F_RING_PACKED) ? 0x8000_8000 : 0;
  }

  /** Tells the back-end all of a queue. `base`: where it begins, unless at the start. */
  async attach(queue: FrontQueue, base?: number): Promise<void> {
    const { index, num, kickFd, callFd, errFd } = queue;
    await this.must("SET_VRING_NUM", u32s(index, num));
    await this.must("SET_VRING_BASE", u32s(index, base ?? this.#firstBase));
    await this.must("SET_VRING_ADDR", this.vringAddress(queue));
    await this.must("SET_VRING_KICK", u64s(index), [kickFd]);
    await this.must("SET_VRING_CALL", u64s(index), [callFd]);
    await this.must("SET_VRING_ERR", u64s(index), [errFd]);
    await this.must("SET_VRING_ENABLE", u32s(index, 1));
  }

  /** The payload of SET_VRING_ADDR. `log`: where writes to the used ring are to be marked. */
  vringAddress({ index, areas }: Pick<FrontQueue, "index" | "areas">, log?: bigint): Uint8Array {
    const { desc, device, driver } = areas;
    const [d, u, a] = [desc, device, driver].map((address) => this.toUser(address));
    const flags = log === undefined ? 0 : wire.VHOST_VRING_F_LOG;
    return joined(u32s(index, flags), u64s(d as bigint, u as bigint, a as bigint, log ?? 0n));
  }

  /** An eventfd of ours, closed with the rest. */
  eventfd(): number {
    const fd = makeEventfd();
    this.#fds.push(fd);
    return fd;
  }

  /** Whether a feature was accepted by both. */
  has(bit: number): boolean {
    return hasFeature(this.features, bit);
  }

  /** Hangs up and gives everything back. Idempotent. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#readiness.close();
    this.socket.close();
    void unmapFile(this.shared.memory, this.shared.guestStart, this.shared.guestBytes);
    for (const fd of [...this.#fds, ...this.received, this.memfd]) closeFd(fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
