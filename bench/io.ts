import { writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BlkDriver, type BlkIo, blk, Kernel } from "#dist/index.js";
import type { RingKind } from "#dist/ring/load.js";
import { type Amount, type Case, compare, type Work } from "./harness.js";
import { tempFolder } from "./temp-folder.js";

/** What is inside the timed part. */
export const IO_NOTE = `Reads of 4 KiB from a file that is cached, depth promises at a time, through
the whole path of a disk (kernel.spawn, process.open(blk({ file, io })), drive.readInto): by the
device's worker itself ("inline"), by io workers ("uring"), for both rings, and by fs.promises.
What waits for nothing gains nothing: an io worker is one thread more on the way.`;

/** What is inside the timed part. */
export const IO_SLOW_NOTE = `The same reads, one at a time, of a disk that is written to all the
while: 8 MiB, which are then made stable, again and again.`;

const BLOCK_BYTES = 4096;
const DISK_BYTES = 32 << 20;
/** Where what is written begins: it is not read. */
const READ_BYTES = 16 << 20;
const BLOCKS = READ_BYTES / BLOCK_BYTES;
const WRITE_BYTES = 8 << 20;
const DEPTHS = [1, 32];
type Process = ReturnType<Kernel["spawn"]>;

interface Reader {
  /** Reads a block, and gives its first word. */
  read(block: number): Promise<number>;
}

/** Whatever blocks are read from. */
interface Source extends AsyncDisposable {
  reader(): Reader;
}

/** Each block begins with a word of its own. */
function makeFile(): { path: string } & Disposable {
  const folder = tempFolder(tmpdir());
  const path = join(folder.path, "disk.img");
  const image = new Uint8Array(DISK_BYTES);
  const view = new DataView(image.buffer);
  for (let block = 0; block < BLOCKS; block++) {
    view.setUint32(block * BLOCK_BYTES, Math.imul(block + 1, 0x9e37_79b1), true);
  }
  writeFileSync(path, image);
  return { path, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

async function openDisk(owner: Process, path: string, io: BlkIo, ring: RingKind) {
  const device = await owner.open(blk({ file: path, io, queues: 2 }), { ring });
  const drive = await device.driver();
  const reader = () => {
    const buffer = drive.alloc(BLOCK_BYTES);
    const { bytes } = buffer;
    const view = new DataView(bytes.buffer, bytes.byteOffset, BLOCK_BYTES);
    const read = async (block: number) => {
      await drive.readInto(block * BLOCK_BYTES, buffer);
      return view.getUint32(0, true);
    };
    return { read };
  };
  return { drive, reader, [Symbol.asyncDispose]: () => device.close() };
}

async function openFs(path: string): Promise<Source> {
  const handle = await open(path, "r");
  const reader = () => {
    const buffer = Buffer.alloc(BLOCK_BYTES);
    const read = async (block: number) => {
      await handle.read(buffer, 0, BLOCK_BYTES, block * BLOCK_BYTES);
      return buffer.readUInt32LE(0);
    };
    return { read };
  };
  return { reader, [Symbol.asyncDispose]: () => handle.close() };
}

/** A sample of `count` reads, `depth` at a time. */
function readWork(name: string, source: Source, depth: number, count: number): Work {
  const readers = Array.from({ length: depth }, () => source.reader());
  let next = 0;
  let sum = 0;
  const run = async () => {
    const start = performance.now();
    let left = count;
    const lane = async ({ read }: Reader) => {
      while (left-- > 0) {
        const block = (next++ * 797) % BLOCKS; // prime to their number: each once, in no order
        const word = await read(block);
        sum = (sum + block + word) | 0; // only now: the other lanes add to it as well
      }
    };
    await Promise.all(readers.map(lane));
    return performance.now() - start;
  };
  return { name, isAsync: true, run, checksum: () => sum };
}

/** What is to be closed at the end, the last first. Node 20 has no AsyncDisposableStack. */
class Undo implements AsyncDisposable {
  readonly #steps: (() => unknown)[] = [];

  use<T extends AsyncDisposable>(it: T): T {
    this.#steps.push(() => it[Symbol.asyncDispose]());
    return it;
  }

  adopt<T>(it: T, undo: (it: T) => void): T {
    this.#steps.push(() => undo(it));
    return it;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const step of this.#steps.splice(0).reverse()) await step();
  }
}

/** The ways to one file; a disk that is written to is open once, so each has its turn. */
const WAYS: readonly [name: string, io: BlkIo, ring: RingKind][] = [
  ["inline, wasm", "inline", "wasm"],
  ["inline, ts", "inline", "ts"],
  ["uring, wasm", "uring", "wasm"],
  ["uring, ts", "uring", "ts"],
];

/** A copy of the file for each way: all are open at a time. */
async function openWays(stack: Undo, owner: Process) {
  const sources: [name: string, source: Awaited<ReturnType<typeof openDisk>>][] = [];
  for (const [name, io, ring] of WAYS) {
    const file = stack.adopt(makeFile(), (made) => made[Symbol.dispose]());
    sources.push([name, stack.use(await openDisk(owner, file.path, io, ring))]);
  }
  return sources;
}

/** Reads a second of each way beside fs.promises. */
export async function benchIo(amount: Amount): Promise<Case[]> {
  await using stack = new Undo();
  const owner = stack.use(new Kernel().spawn({ comm: "bench", memoryBytes: 64 << 20 }));
  const sources = await openWays(stack, owner);
  const file = stack.adopt(makeFile(), (made) => made[Symbol.dispose]());
  const fs = stack.use(await openFs(file.path));
  const cases: Case[] = [];
  for (const depth of DEPTHS) {
    const works = [...sources, ["fs.promises", fs] as const].map(([name, source]) =>
      readWork(name, source, depth, amount.items),
    );
    const measured = await compare(works, amount);
    const sameWork = works.map(({ name }) => name);
    const name = `reads, depth ${depth}`;
    cases.push({ bench: "io", name, facts: { depth }, sameWork, measured });
  }
  return cases;
}

/** Reads beside a write that takes long, by the worker itself and by io workers. */
export async function benchIoSlow(amount: Amount): Promise<Case[]> {
  await using stack = new Undo();
  const owner = stack.use(new Kernel().spawn({ comm: "bench", memoryBytes: 64 << 20 }));
  const sources = (await openWays(stack, owner)).filter(([name]) => name.endsWith("wasm"));
  const works = sources.map(([name, source]) => {
    const work = readWork(name, source, 1, amount.items);
    return { ...work, run: () => besideWrites(source.drive, work.run as () => Promise<number>) };
  });
  const measured = await compare(works, amount);
  const sameWork = works.map(({ name }) => name);
  const name = "reads, depth 1, beside long writes";
  return [{ bench: "io", name, facts: { depth: 1 }, sameWork, measured }];
}

/** Does `run` while 8 MiB are written and made stable, over and over. */
async function besideWrites(drive: BlkDriver, run: () => Promise<number>): Promise<number> {
  let isOver = false;
  using buffer = drive.alloc(WRITE_BYTES);
  buffer.bytes.fill(0xaa);
  const writing = async () => {
    while (!isOver) {
      await drive.writeFrom(READ_BYTES, buffer);
      await drive.flush();
    }
  };
  const writes = writing();
  const ms = await run();
  isOver = true;
  await writes;
  return ms;
}
