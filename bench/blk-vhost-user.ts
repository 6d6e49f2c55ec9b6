import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { signalEventfd } from "#dist/linux/eventfd.js";
import { featureMask } from "#dist/spec/features.js";
import { VIRTIO_BLK_T_IN } from "#dist/spec/virtio-blk.js";
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1 } from "#dist/spec/virtio-config.js";
import { type Disk, hasDaemon, onOwnCore, type Peer, ServingPeer } from "./blk-peers.js";
import { FrontEnd, type FrontQueue } from "./front-end.js";
import { type Amount, type Case, compare, type Work } from "./harness.js";
import { tempFolder } from "./temp-folder.js";

/** What is inside the timed part. */
export const BLK_VHOST_USER_NOTE = `Random 4 KiB reads over vhost-user, from a front-end that polls
(one core for it, one for the back-end, by taskset): "vhost-wasm serve blk" beside
qemu-storage-daemon, each in a process of its own, in turn. null: no data is moved (null-co there).
file: an image in /dev/shm. Peers that are not installed (Debian's package qemu-utils) are left
out.`;

const BLOCK_BYTES = 4096;
const DISK_BYTES = 64 << 20;
const BLOCKS = DISK_BYTES / BLOCK_BYTES;
const SECTORS_A_BLOCK = BLOCK_BYTES / 512;
const HEADER_BYTES = 16;
const QUEUE_SIZE = 256;
const DEPTHS = [1, 32];
const BURST_MAX = 128;
/** Looks at a ring that stays empty, seconds of them, before it is given up. */
const IDLE_LOOKS_MAX = 1e9;
/** Prime to the number of blocks: each comes once, in no order. */
const STRIDE = 7919;

/** Buffers of one request: linear addresses. */
interface Slot {
  header: number;
  data: number;
  status: number;
}

/** A driver that keeps `depth` reads going on one queue, and looks at the ring for them. */
class PollingDriver {
  readonly #frontEnd: FrontEnd;
  readonly #queue: FrontQueue;
  readonly #slots: Slot[];
  readonly #slotOf = new Uint16Array(QUEUE_SIZE);
  readonly #free: number[];
  #next = 0;
  checksum = 0;

  constructor(frontEnd: FrontEnd, queue: FrontQueue, depth: number) {
    const { shared } = frontEnd;
    this.#frontEnd = frontEnd;
    this.#queue = queue;
    this.#slots = Array.from({ length: depth }, () => ({
      header: shared.allocGuest(HEADER_BYTES),
      data: shared.allocGuest(BLOCK_BYTES, BLOCK_BYTES),
      status: shared.allocGuest(1),
    }));
    this.#free = this.#slots.map((_, index) => index);
    queue.ring.disableCall();
  }

  /** Reads `count` blocks. Throws when the back-end stands still or reports an error. */
  run(count: number): number {
    const start = performance.now();
    let asked = this.#submit(count);
    for (let done = 0, idle = 0; done < count; ) {
      const got = this.#queue.ring.getBufs(BURST_MAX);
      if (got === 0) {
        if (++idle > IDLE_LOOKS_MAX) throw new Error(`${done} of ${count} reads, and no more come`);
        continue;
      }
      idle = 0;
      for (let i = 0; i < got; i++) this.#collect(i);
      done += got;
      asked += this.#submit(count - asked);
    }
    return performance.now() - start;
  }

  #collect(index: number): void {
    const { bytes, view } = this.#frontEnd.shared;
    const slot = this.#slotOf[this.#queue.tables.head(index)] as number;
    const { header, data, status } = this.#slots[slot] as Slot;
    if (bytes[status] !== 0) throw new Error(`a read failed with status ${bytes[status]}`);
    const sector = view.getUint32(header + 8, true); // as it was asked for
    this.checksum = (this.checksum + sector + view.getUint32(data, true)) | 0;
    this.#free.push(slot);
  }

  /** As many as there are buffers for, `most` at most. */
  #submit(most: number): number {
    const { ring, tables, kickFd } = this.#queue;
    const { view, bytes } = this.#frontEnd.shared;
    const count = Math.min(most, this.#free.length);
    if (count === 0) return 0;
    for (let i = 0; i < count; i++) {
      const { header, data, status } = this.#slots[this.#free[i] as number] as Slot;
      const block = (this.#next++ * STRIDE) % BLOCKS;
      view.setUint32(header, VIRTIO_BLK_T_IN, true);
      view.setUint32(header + 8, block * SECTORS_A_BLOCK, true);
      bytes[status] = 0xff;
      tables.setChain(i, i * 3, 1, 2);
      tables.setIov(i * 3, header, HEADER_BYTES);
      tables.setIov(i * 3 + 1, data, BLOCK_BYTES);
      tables.setIov(i * 3 + 2, status, 1);
    }
    const added = ring.addBufs(count);
    for (let i = 0; i < added; i++) this.#slotOf[tables.head(i)] = this.#free[i] as number;
    this.#free.splice(0, added);
    ring.publish();
    if (ring.kickNeeded()) signalEventfd(kickFd);
    return added;
  }
}

/** Connects to a peer; the work is `count` reads at a depth. */
async function readWork(
  frontEnd: FrontEnd,
  peer: Peer,
  { depth, count }: { depth: number; count: number },
): Promise<Work> {
  await frontEnd.negotiate(featureMask(VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1));
  await frontEnd.setMemory();
  const driver = new PollingDriver(frontEnd, await frontEnd.startQueue(0, QUEUE_SIZE), depth);
  const run = async () => driver.run(count);
  return { name: peer, isAsync: true, run, checksum: () => driver.checksum };
}

function makeImage(path: string): void {
  const image = Buffer.alloc(DISK_BYTES);
  for (let block = 0; block < BLOCKS; block++) {
    image.writeUInt32LE(Math.imul(block + 1, 0x9e37_79b1) >>> 0, block * BLOCK_BYTES);
  }
  writeFileSync(path, image);
}

/** One disk at one depth: all peers in turn. */
async function benchDepth(
  name: string,
  serving: ReadonlyMap<Peer, ServingPeer>,
  depth: number,
  amount: Amount,
): Promise<Case> {
  const frontEnds: FrontEnd[] = [];
  const works: Work[] = [];
  try {
    for (const [peer, { socket }] of serving) {
      const frontEnd = new FrontEnd(socket);
      frontEnds.push(frontEnd);
      works.push(await readWork(frontEnd, peer, { depth, count: amount.items }));
    }
    const measured = await compare(works, amount);
    const facts = { transport: "vhost-user", disk: name, depth };
    const sameWork = works.map((work) => work.name);
    return { bench: "blk", name: `${name}, depth ${depth}`, facts, sameWork, measured };
  } finally {
    for (const frontEnd of frontEnds) frontEnd.close();
  }
}

async function benchDisk(
  name: string,
  disk: Disk,
  peers: readonly Peer[],
  folder: string,
  amount: Amount,
): Promise<Case[]> {
  const serving = new Map<Peer, ServingPeer>();
  try {
    for (const peer of peers) serving.set(peer, await ServingPeer.start(peer, disk, folder));
    const cases: Case[] = [];
    for (const depth of DEPTHS) cases.push(await benchDepth(name, serving, depth, amount));
    return cases;
  } finally {
    for (const server of serving.values()) await server.stop();
  }
}

/** Reads a second over vhost-user, with no data to move. */
export async function benchNullOverVhostUser(amount: Amount): Promise<Case[]> {
  const peers: Peer[] = hasDaemon() ? ["vhost-wasm", "null-co"] : ["vhost-wasm"];
  return inFolder((folder) => {
    return benchDisk("null", { sizeBytes: DISK_BYTES }, peers, folder, amount);
  });
}

/** Reads a second over vhost-user, from a file in memory. */
export async function benchFileOverVhostUser(amount: Amount): Promise<Case[]> {
  const peers: Peer[] = hasDaemon() ? ["vhost-wasm", "threads", "io_uring"] : ["vhost-wasm"];
  return inFolder((folder) => {
    const file = join(folder, "disk.img");
    makeImage(file);
    return benchDisk("file", { file, sizeBytes: DISK_BYTES }, peers, folder, amount);
  });
}

async function inFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  using folder = tempFolder("/dev/shm");
  return await onOwnCore(() => use(folder.path));
}
