import { blk, Kernel, type OpenDevice, type Process } from "#dist/index.js";
import { GUEST_BASE } from "#dist/memory/shared-memory.js";
import { vringAreas } from "#dist/memory/vring.js";
import { loadRings } from "#dist/ring/load.js";
import { allocDriverState } from "#dist/ring/state-block.js";
import { RingTables } from "#dist/ring/tables.js";
import { featureMask } from "#dist/spec/features.js";
import { VIRTIO_BLK_T_FLUSH } from "#dist/spec/virtio-blk.js";
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1 } from "#dist/spec/virtio-config.js";
import { type Case, type Measured, median } from "./harness.js";

/** What is inside the timed part. */
export const LATENCY_NOTE = `From kick to call, one request at a time, of a null disk that has
nothing to do: published and kicked if the worker asked for it, until the call. Between two requests
the driver lets 100 µs go by. By the queue's timeout (setVringBusyloopTimeout):
polling     a millisecond: the worker is awake, and no kick is asked for
no polling  0: it sleeps when there is nothing, and the kick wakes it
The driver spins until the call has come, or sleeps (Atomics.wait), so that the call wakes it.`;

const NUM = 8;
const GAP_MS = 0.1;
const CALL_MS_MAX = 5000;
const POLL_MICROSECONDS = 1000;
const HEADER_BYTES = 16;
const FEATURES = featureMask(VIRTIO_F_VERSION_1, VIRTIO_F_EVENT_IDX);
const PERCENTILES = [50, 99, 99.9];

/** How many: each round gives a percentile of all its requests. */
export interface LatencyAmount {
  rounds: number;
  requests: number;
}

/** One queue of a disk, and its driver in this thread, without promises. */
class RawDriver {
  readonly #device: OpenDevice<"blk">;
  readonly #ring: ReturnType<ReturnType<typeof loadRings>["driver"]>;
  readonly #tables: RingTables;
  readonly #header: number;
  /** What came of all requests so far. */
  checksum = 0;

  private constructor(device: OpenDevice<"blk">, vq: number, header: number) {
    this.#device = device;
    const { memory } = device.dev.sharedMemory;
    this.#ring = loadRings(memory).driver(vq);
    this.#ring.reset();
    this.#tables = new RingTables(memory, vq);
    this.#header = header;
  }

  static async make(owner: Process, busyloopMicroseconds: number): Promise<RawDriver> {
    const device = await owner.open(blk({ nullBytes: 512, queueSize: NUM }));
    const { dev } = device;
    const shared = dev.sharedMemory;
    const { desc, driver, device: used } = vringAreas(NUM, false);
    const [d, a, u] = [desc, driver, used].map(({ bytes }) => shared.allocGuest(bytes, 64)) as [
      number,
      number,
      number,
    ];
    const at = (address: number) => shared.toGuest(address);
    dev.setFeatures(FEATURES);
    const sizeBytes = BigInt(shared.guestBytes);
    dev.setMemTable([{ guestAddress: GUEST_BASE, sizeBytes, linearAddress: shared.guestStart }]);
    dev.setVringNum(0, NUM);
    dev.setVringAddr(0, { desc: at(d), driver: at(a), device: at(u) });
    const header = shared.allocGuest(64, 64);
    shared.view.setUint32(header, VIRTIO_BLK_T_FLUSH, true);
    const ring = { num: NUM, desc: d, driver: a, device: u, features: FEATURES };
    const { vq } = allocDriverState(shared, ring);
    const made = new RawDriver(device, vq, header);
    await dev.start();
    await dev.setVringBusyloopTimeout(0, busyloopMicroseconds);
    return made;
  }

  /** One request; milliseconds from before its kick to its call. */
  request(sleeps: boolean): number {
    const ring = this.#ring;
    const { doorbell } = this.#device.dev.worker;
    this.#tables.setChain(0, 0, 1, 1);
    this.#tables.setIov(0, this.#header, HEADER_BYTES);
    this.#tables.setIov(1, this.#header + HEADER_BYTES, 1);
    ring.addBufs(1);
    ring.enableCall();
    const seen = doorbell.callSequence();
    const start = performance.now();
    ring.publish();
    if (ring.kickNeeded()) this.#device.dev.workers.kick(0);
    if (sleeps) doorbell.waitCallBlocking(seen, CALL_MS_MAX);
    else while (doorbell.callSequence() === seen && performance.now() < start + CALL_MS_MAX);
    const ms = performance.now() - start;
    if (ring.getBufs(1) !== 1) throw new Error("a call was lost, or came for nothing");
    this.checksum = (Math.imul(this.checksum, 31) + this.#tables.usedBytes(0)) | 0;
    return ms;
  }

  /** Nanoseconds of so many requests, in order. */
  sample(count: number, sleeps: boolean): Float64Array {
    const times = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      for (const until = performance.now() + GAP_MS; performance.now() < until; );
      times[i] = this.request(sleeps) * 1e6;
    }
    return times.sort();
  }
}

const percentile = (sorted: Float64Array, percent: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] as number;

async function drivers(owner: Process): Promise<Map<string, RawDriver>> {
  return new Map([
    ["polling", await RawDriver.make(owner, POLL_MICROSECONDS)],
    ["no polling", await RawDriver.make(owner, 0)],
  ]);
}

/** One percentile as a case; `rounds`: of each driver, in their order, what each round took. */
function caseOf(
  name: string,
  percent: number,
  all: ReadonlyMap<string, RawDriver>,
  rounds: readonly Float64Array[][],
): Case {
  const times = rounds.map((round) => round.map((sorted) => percentile(sorted, percent)));
  const measured = [...all].map(([work, { checksum }], i): Measured => {
    const nsPerItem = median(times.map((round) => round[i] as number));
    const timesSlower = median(times.map((round) => (round[i] as number) / (round[0] as number)));
    const itemsPerSecond = 1e9 / nsPerItem;
    return { name: work, nsPerItem, itemsPerSecond, checksum: checksum >>> 0, timesSlower };
  });
  const facts = { percent };
  return { bench: "latency", name, facts, sameWork: [...all.keys()], measured };
}

/** From kick to call: percentiles, medians over the rounds. Blocks this thread while it runs. */
export async function benchLatency({ rounds, requests }: LatencyAmount): Promise<Case[]> {
  const cases: Case[] = [];
  for (const sleeps of [false, true]) {
    await using owner = new Kernel().spawn({ comm: "bench", memoryBytes: 4 << 20 });
    const all = await drivers(owner);
    const samples: Float64Array[][] = [];
    for (let round = 0; round <= rounds; round++) {
      samples.push([...all.values()].map((one) => one.sample(requests, sleeps)));
    }
    samples.shift(); // for warming up
    const how = sleeps ? "driver sleeps" : "driver spins";
    for (const percent of PERCENTILES) {
      cases.push(caseOf(`${how}, p${percent}`, percent, all, samples));
    }
  }
  return cases;
}
