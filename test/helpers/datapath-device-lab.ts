// The whole path: the product's vsock device in a worker that is a real thread, kicked, called and
// told of errors by real eventfds, with the policy "linux".

import { setTimeout as sleep } from "node:timers/promises";
import { Kernel, type Vsock, vsock } from "#dist/index.js";
import { makeEventfd } from "#dist/linux/eventfd.js";
import { check, closeFd, libc } from "#dist/linux/libc.js";
import type { Process } from "#dist/loopback.js";
import { GUEST_BASE, type SharedMemory } from "#dist/memory/shared-memory.js";
import { descBytes, deviceAreaBytes, driverAreaBytes } from "#dist/memory/vring.js";
import type { RingKind } from "#dist/ring/load.js";
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
} from "#dist/spec/virtio-config.js";
import { VIRTQ_DESC_F_WRITE } from "#dist/spec/virtio-ring.js";
import {
  VIRTIO_VSOCK_HEADER_BYTES,
  VIRTIO_VSOCK_OP_REQUEST,
  VIRTIO_VSOCK_QUEUE_RX,
  VIRTIO_VSOCK_QUEUE_TX,
  VIRTIO_VSOCK_TYPE_STREAM,
  VMADDR_CID_HOST,
} from "#dist/spec/virtio-vsock.js";
import { VhostDev } from "#dist/vhost/dev.js";
import { readHeader, type VsockHeader, writeHeader } from "#dist/vsock/header.js";
import { Lab, type LabShape, type Seen, type Signs } from "./datapath-lab.js";
import { bit } from "./raw-guest.js";
import { RawRing } from "./raw-ring.js";

/** The guest's, as recorded. */
const CID = 42;
const RX_BUFFER_BYTES = 512;
/** Guest memory behind the first region, which holds the second. */
const TAIL_BYTES = 4096;
const MEMORY_BYTES = 8 << 20;
/** Rounds of waiting for an answer of the host's sockets, in this thread, and for its delivery. */
const ROUNDS = 10;

/** Eventfds of a queue. */
class Eventfds {
  readonly kickFd = makeEventfd();
  readonly callFd = makeEventfd();
  readonly errFd = makeEventfd();

  /** Adds to the kick's count. */
  kick(count = 1n): void {
    check(libc().write(this.kickFd, new BigUint64Array([count]), 8), "no kick");
  }

  /** What the driver finds, and takes. */
  take(): Signs {
    return { calls: taken(this.callFd), errors: taken(this.errFd) };
  }

  close(): void {
    for (const fd of [this.kickFd, this.callFd, this.errFd]) closeFd(fd);
  }
}

function taken(fd: number): number {
  const count = new BigUint64Array(1);
  return libc().read(fd, count, 8) === 8 ? Number(count[0]) : 0;
}

/** A split ring somewhere in guest memory. */
class GuestRing extends RawRing {
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  readonly data: number;
  readonly fds = new Eventfds();

  constructor(
    shared: SharedMemory,
    readonly num: number,
    dataBytes: number,
  ) {
    super(shared.memory);
    this.desc = shared.allocGuest(descBytes(num), 16);
    this.avail = shared.allocGuest(driverAreaBytes(num), 16);
    this.used = shared.allocGuest(deviceAreaBytes(num), 16);
    this.data = shared.allocGuest(dataBytes, 16);
  }
}

export class DeviceLab extends Lab {
  readonly f: GuestRing;
  /** The queue to the guest. */
  readonly rx: GuestRing;
  /** The host's. */
  readonly sockets: Vsock;
  readonly #process: Process;
  readonly #dev: VhostDev;
  readonly #shared: SharedMemory;
  readonly #wakeFd: number;

  private constructor(
    process: Process,
    dev: VhostDev,
    sockets: Vsock,
    shape: LabShape,
    wakeFd: number,
  ) {
    super();
    this.sockets = sockets;
    const { num = 8, base = 0, dataBytes = 4096, rxBuffers = 4, srcCid = CID } = shape;
    this.#process = process;
    this.#dev = dev;
    this.#wakeFd = wakeFd;
    this.#shared = dev.sharedMemory;
    this.rx = new GuestRing(this.#shared, num, num * RX_BUFFER_BYTES);
    this.f = new GuestRing(this.#shared, num, dataBytes);
    for (const ring of [this.rx, this.f]) ring.availIdx = ring.usedIdx = base;
    for (let i = 0; i < rxBuffers; i++) this.offerRx(i);
    this.putPacket(this.packet().addr, { srcCid });
    for (let i = 0; i < num; i++) this.f.writeDesc(i, this.packet());
  }

  /** Opens and starts it. */
  static async open(ring: RingKind, shape: LabShape = {}): Promise<DeviceLab> {
    const kernel = new Kernel();
    const process = kernel.spawn({ uid: 1000, memoryBytes: MEMORY_BYTES });
    const wakeFd = makeEventfd();
    const module = new URL("../../dist/vhost-user/eventfd-notifier.js", import.meta.url).href;
    const options = { wakeFd, comm: "vhost-test" };
    const wake = () => void libc().write(wakeFd, new BigUint64Array([1n]), 8);
    const notifier = { module, options, wake, wakeFd };
    const dev = new VhostDev(kernel.model, { ring, policy: "linux", notifier });
    dev.setOwner(process.task);
    const sockets = vsock({ cid: CID, queueSize: 1024 });
    await dev.setBackend(sockets);
    const lab = new DeviceLab(process, dev, sockets, shape, wakeFd);
    await lab.#setUp(shape);
    return lab;
  }

  async #setUp({ eventIdx, indirect, base = 0 }: LabShape): Promise<void> {
    const { guestStart, guestBytes } = this.#shared;
    const others = (eventIdx ? bit(VIRTIO_F_EVENT_IDX) : 0n) | (indirect ? INDIRECT : 0n);
    this.#dev.setFeatures(bit(VIRTIO_F_VERSION_1) | others);
    const firstBytes = BigInt(guestBytes - TAIL_BYTES);
    const linearAddress = guestStart + guestBytes - TAIL_BYTES / 2; // not behind the first
    const second = { guestAddress: GUEST_BASE + firstBytes, sizeBytes: 256n, linearAddress };
    this.#dev.setMemTable([
      { guestAddress: GUEST_BASE, sizeBytes: firstBytes, linearAddress: guestStart },
      second,
    ]);
    for (const [index, ring] of [this.rx, this.f].entries()) {
      this.#dev.setVringNum(index, ring.num);
      const [desc, driver, device] = [ring.desc, ring.avail, ring.used].map((at) =>
        this.guestOf(at),
      ) as [bigint, bigint, bigint];
      this.#dev.setVringAddr(index, { desc, driver, device });
      this.#dev.setVringBase(index, base);
    }
    await this.#start();
  }

  /** As vhost-vsock starts: it sends what it has, and looks at no ring before its kick. */
  async #start(): Promise<void> {
    const { kickFd, callFd, errFd } = this.f.fds;
    const { fds } = this.rx;
    this.#dev.setVringNotify(VIRTIO_VSOCK_QUEUE_RX, fds);
    this.#dev.setVringNotify(VIRTIO_VSOCK_QUEUE_TX, { kickFd, callFd, errFd, awaitsKick: true });
    taken(kickFd);
    await this.#dev.start();
    await this.flush();
    this.f.fds.take(); // each driver is called at the start
    fds.take();
  }

  get lastAvail(): number {
    return this.#dev.getVringBase(VIRTIO_VSOCK_QUEUE_TX);
  }

  get rxLastAvail(): number {
    return this.#dev.getVringBase(VIRTIO_VSOCK_QUEUE_RX);
  }

  get regionEnd(): bigint {
    return this.guestOf(this.#shared.guestStart + this.#shared.guestBytes - TAIL_BYTES);
  }

  guestOf(linear: number): bigint {
    return this.#shared.toGuest(linear);
  }

  #linearOf(address: bigint): number {
    const { guestStart, guestBytes } = this.#shared;
    const isFirst = address < this.regionEnd;
    if (isFirst) return guestStart + Number(address - GUEST_BASE);
    return guestStart + guestBytes - TAIL_BYTES / 2 + Number(address - this.regionEnd);
  }

  /** A REQUEST that nobody listens for: it is answered with RST. */
  putPacket(address: bigint, fields: Partial<VsockHeader> = {}): void {
    const bytes = new Uint8Array(VIRTIO_VSOCK_HEADER_BYTES);
    writeHeader(new DataView(bytes.buffer), 0, {
      srcCid: CID,
      dstCid: VMADDR_CID_HOST,
      srcPort: 1000,
      dstPort: 9999,
      len: 0,
      type: VIRTIO_VSOCK_TYPE_STREAM,
      op: VIRTIO_VSOCK_OP_REQUEST,
      flags: 0,
      bufAlloc: 4096,
      fwdCnt: 0,
      ...fields,
    });
    for (const [i, byte] of bytes.entries()) {
      this.#shared.bytes[this.#linearOf(address + BigInt(i))] = byte;
    }
  }

  /** Linear address of buffer `index` of the queue to the guest. */
  rxBuffer(index: number): number {
    return this.rx.data + index * RX_BUFFER_BYTES;
  }

  /** Offers buffer `index` of the queue to the guest. */
  offerRx(index: number, len = RX_BUFFER_BYTES, flags: number = VIRTQ_DESC_F_WRITE): void {
    const addr = this.guestOf(this.rxBuffer(index));
    this.rx.writeDesc(index, { addr, len, flags });
    this.rx.offer(index);
  }

  /** All that was kicked has had its turn, and the host's sockets theirs. */
  async flush(): Promise<void> {
    for (let round = 0; round < ROUNDS; round++) {
      await this.#dev.flush();
      await sleep(1);
    }
    await this.#dev.flush();
  }

  async kickDevice(count = 1n): Promise<Signs> {
    this.f.fds.kick(count);
    await this.flush();
    return this.f.fds.take();
  }

  /** Kicks the queue to the guest; what its eventfds then have. */
  async kickRx(): Promise<Signs> {
    this.rx.fds.kick();
    await this.flush();
    return this.rx.fds.take();
  }

  async stop(): Promise<void> {
    await this.#dev.stop();
  }

  async start(position: number): Promise<void> {
    await this.#dev.stop();
    this.#dev.setVringBase(VIRTIO_VSOCK_QUEUE_TX, position);
    await this.#start();
  }

  more(name: string): Seen {
    const [id, len] = this.rx.usedElem(0);
    const header = readHeader(this.rx.view, this.rx.data);
    const first = {
      rx_used_idx: this.seen.rx_used_idx ?? this.rx.usedIdx, // after the first kick
      rx0_id: id,
      rx0_len: len,
      rx0_op: header.op,
      rx0_type: header.type,
      rx0_src_cid: header.srcCid,
      rx0_dst_cid: header.dstCid,
      rx0_src_port: header.srcPort,
      rx0_dst_port: header.dstPort,
      rx0_hdr_len: header.len,
    };
    return { [`${name}_rx_used_idx`]: this.rx.usedIdx, ...first };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dev.close();
    await this.#process.exit();
    for (const { fds } of [this.f, this.rx]) fds.close();
    closeFd(this.#wakeFd);
  }
}

const INDIRECT = bit(VIRTIO_F_INDIRECT_DESC);
