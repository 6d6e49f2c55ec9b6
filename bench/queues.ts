import { blk, Kernel, type Process } from "#dist/index.js";
import { BLOCK_BYTES, DISK_BYTES, diskImage, readWork, type Source } from "./blk.js";
import { type Amount, type Case, compare } from "./harness.js";

/** What is inside the timed part. */
export const QUEUES_NOTE = `One disk in memory, with 1, 2 and 4 queues (q) on 1 and 2 workers (w):
open(blk({ queues }), { workers }), then drive.readInto(offset, buffer), 32 promises at a time, on
the queues in turn; a worker copies each from the disk. Driver and workers are a thread each: two
workers need a third core for themselves; where there are two, they have what the driver leaves.`;

const DEPTH = 32;
const SIZES = [BLOCK_BYTES, 16 * BLOCK_BYTES];
/** Queues and workers; the first is what the others are compared with. */
const LAYOUTS = [
  [1, 1],
  [2, 1],
  [2, 2],
  [4, 1],
  [4, 2],
] as const;

/** A disk, read by so much at a time. */
async function openDisk(owner: Process, queues: number, workers: number): Promise<Disk> {
  const device = await owner.open(blk({ memoryBytes: DISK_BYTES, queues }), { workers });
  const drive = await device.driver();
  await drive.write(0, diskImage());
  const reader = (bytes: number) => {
    const buffer = drive.alloc(bytes);
    const view = new DataView(buffer.bytes.buffer, buffer.bytes.byteOffset, bytes);
    return {
      read: async (block: number) => {
        await drive.readInto((block * BLOCK_BYTES) % (DISK_BYTES - bytes), buffer);
        return view.getUint32(0, true);
      },
    };
  };
  return {
    source: (bytes) => ({ reader: () => reader(bytes), [Symbol.asyncDispose]: async () => {} }),
    [Symbol.asyncDispose]: () => device.close(),
  };
}

interface Disk extends AsyncDisposable {
  source(bytes: number): Source;
}

/** Reads a second by queues and workers. Everything that it opens is closed when it is over. */
export async function benchQueues(amount: Amount): Promise<Case[]> {
  await using owner = new Kernel().spawn({ comm: "bench", memoryBytes: 64 << 20 });
  const disks: Disk[] = [];
  for (const [queues, workers] of LAYOUTS) disks.push(await openDisk(owner, queues, workers));
  const cases: Case[] = [];
  for (const bytes of SIZES) {
    const works = LAYOUTS.map(([queues, workers], i) => {
      const name = `${queues}q ${workers}w`;
      return readWork(name, (disks[i] as Disk).source(bytes), DEPTH, amount.items);
    });
    const measured = await compare(works, amount);
    const sameWork = works.map(({ name }) => name);
    const name = `${bytes >>> 10} KiB`;
    cases.push({ bench: "queues", name, facts: { bytes }, sameWork, measured });
  }
  return cases;
}
