import { Worker } from "node:worker_threads";
import { blk, type HostileDriver, Kernel, type OpenDevice } from "#dist/index.js";
import { type Amount, type Case, compare, type Work } from "./harness.js";
import { FLOOD, FLOOD_CELL, type FloodSetup } from "./hostile-order.js";

/** What is inside the timed part. */
export const HOSTILE_NOTE = `A good queue beside another on the same worker: reads of a sector from
a null disk, one at a time, while a second thread keeps the other queue of 256 entries full.
alone      nothing is in the other queue
good       good reads of a sector, as many as there is room for
circles    chains of all 256 descriptors in a circle, of no bytes: none has an end
tables     indirect tables of 1025 entries, of no bytes: more than a chain may have
Three threads: on two cores the driver's has to share.`;

const NUM = 256;

/** The thread that fills queue 0. */
class Flooder implements AsyncDisposable {
  readonly #cell = new Int32Array(new SharedArrayBuffer(12));
  readonly #worker: Worker;
  readonly #failed: Promise<never>;

  constructor({ dev }: OpenDevice<"blk">, driver: HostileDriver, isPacked: boolean) {
    const { areas, num } = driver.ring(0);
    const second = driver.memory.regions[1];
    const workerData: FloodSetup = {
      memory: dev.sharedMemory.memory,
      cell: this.#cell,
      isPacked,
      num,
      desc: areas.desc.address,
      driver: areas.driver.address,
      device: areas.device.address,
      room: { linear: second.linearAddress, guest: second.guestAddress },
    };
    this.#worker = new Worker(new URL("./hostile-flood.js", import.meta.url), { workerData });
    this.#failed = new Promise((_, reject) => this.#worker.once("error", reject));
    this.#failed.catch(() => {}); // told by whoever gives an order
  }

  /** Resolves when it does so; `turn` is taken again and again until then. */
  async order(order: number, turn: () => Promise<unknown>): Promise<void> {
    Atomics.store(this.#cell, FLOOD_CELL.order, order);
    Atomics.notify(this.#cell, FLOOD_CELL.order);
    while (Atomics.load(this.#cell, FLOOD_CELL.state) !== order) {
      await Promise.race([turn(), this.#failed]);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    Atomics.store(this.#cell, FLOOD_CELL.order, FLOOD.end);
    Atomics.notify(this.#cell, FLOOD_CELL.order);
    await this.#worker.terminate();
  }
}

/** Requests on queue 1, while queue 0 is full of this. */
function workBeside(
  name: string,
  driver: HostileDriver,
  flooder: Flooder,
  order: number,
  items: number,
): Work {
  let sum = 0;
  const request = () => driver.request(1);
  const run = async () => {
    await flooder.order(order, request); // a request now and then keeps the worker awake
    const start = performance.now();
    for (let i = 0; i < items; i++) sum = (Math.imul(sum, 31) + ((await request()) ? 7 : 0)) | 0;
    const ms = performance.now() - start;
    await flooder.order(FLOOD.none, request);
    return ms;
  };
  return { name, isAsync: true, run, checksum: () => sum };
}

async function benchFormat(isPacked: boolean, amount: Amount): Promise<Case> {
  await using owner = new Kernel().spawn({ memoryBytes: 4 << 20 });
  const device = await owner.open(blk({ nullBytes: 1 << 20, queues: 2 }));
  const driver = await device.hostileDriver({ packed: isPacked, queueSize: NUM });
  await using flooder = new Flooder(device, driver, isPacked);
  const work = (name: string, order: number) =>
    workBeside(name, driver, flooder, order, amount.items);
  const works = [
    work("alone", FLOOD.none),
    work("beside good", FLOOD.good),
    work("beside tables", FLOOD.tables),
    ...(isPacked ? [] : [work("beside circles", FLOOD.circles)]),
  ];
  const measured = await compare(works, amount);
  const format = isPacked ? "packed" : "split";
  const sameWork = works.map(({ name }) => name);
  return { bench: "hostile", name: format, facts: { format }, sameWork, measured };
}

/** A good queue alone, and beside others. Ends by itself; no thread is left after it. */
export async function benchHostile(amount: Amount): Promise<Case[]> {
  return [await benchFormat(false, amount), await benchFormat(true, amount)];
}
