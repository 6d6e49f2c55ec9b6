import { writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { blk, Kernel } from "#dist/index.js";
import type { RingKind } from "#dist/ring/load.js";
import { type Amount, type Case, compare, type Work } from "./harness.js";
import { tempFolder } from "./temp-folder.js";

/** What is inside the timed part. */
export const BLK_NOTE = `The whole path as a program has it: kernel.spawn, process.open(blk(…)),
device.driver(), then drive.readInto(offset, buffer), 4 KiB each, depth promises at a time; the
worker is a thread with its defaults. Beside it fs.promises: handle.read(buffer) of the same file at
the same depth. Offsets all over the file, which is cached.`;

/** Of 4 KiB, so many. */
export const BLOCK_BYTES = 4096;
export const DISK_BYTES = 16 << 20;
const BLOCKS = DISK_BYTES / BLOCK_BYTES;
const DEPTHS = [1, 32];
const TIMEOUT_MS = 30_000;
const DISKS = ["null", "memory", "file"] as const;
type Disk = (typeof DISKS)[number];
type Process = ReturnType<Kernel["spawn"]>;

/** A reader of blocks: whatever is closed when the bench is over. */
export interface Source extends AsyncDisposable {
  /** A way to read one block at a time; `read` gives the block's first word. */
  reader(): { read(block: number): Promise<number> };
}

/** Each block begins with its number, times a constant so that it has bits all over. */
export function diskImage(): Uint8Array {
  const image = new Uint8Array(DISK_BYTES);
  const view = new DataView(image.buffer);
  for (let block = 0; block < BLOCKS; block++) {
    view.setUint32(block * BLOCK_BYTES, Math.imul(block + 1, 0x9e37_79b1), true);
  }
  return image;
}

/** The bench's file, in the system's folder for temporary files; gone when disposed. */
function makeFile(): { path: string } & Disposable {
  const folder = tempFolder(tmpdir());
  const path = join(folder.path, "disk.img");
  writeFileSync(path, diskImage());
  return { path, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

/** A device of ours and its driver. */
async function openDisk(owner: Process, disk: Disk, ring: RingKind, path: string): Promise<Source> {
  const spec = {
    null: () => blk({ nullBytes: DISK_BYTES }),
    memory: () => blk({ memoryBytes: DISK_BYTES }),
    file: () => blk({ file: path, readOnly: true }),
  }[disk]();
  const device = await owner.open(spec, { ring });
  const drive = await device.driver();
  if (disk === "memory") await drive.write(0, diskImage());
  return {
    reader: () => {
      const buffer = drive.alloc(BLOCK_BYTES);
      const { bytes } = buffer;
      const view = new DataView(bytes.buffer, bytes.byteOffset, BLOCK_BYTES);
      return {
        read: async (block) => {
          await drive.readInto(block * BLOCK_BYTES, buffer);
          return view.getUint32(0, true);
        },
      };
    },
    [Symbol.asyncDispose]: () => device.close(),
  };
}

/** The same file by Node's own promises. */
async function openFs(path: string): Promise<Source> {
  const handle = await open(path, "r");
  return {
    reader: () => {
      const buffer = Buffer.alloc(BLOCK_BYTES);
      return {
        read: async (block) => {
          await handle.read(buffer, 0, BLOCK_BYTES, block * BLOCK_BYTES);
          return buffer.readUInt32LE(0);
        },
      };
    },
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

/** Rejects when `work` takes longer than anything here can: then a wake-up was lost. */
async function inTime(work: Promise<unknown>, state: () => string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const fail = () => reject(new Error(`given up after ${TIMEOUT_MS} ms: ${state()}`));
    timer = setTimeout(fail, TIMEOUT_MS);
  });
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** A sample of `count` reads, `depth` at a time. */
export function readWork(name: string, source: Source, depth: number, count: number): Work {
  const readers = Array.from({ length: depth }, () => source.reader());
  let next = 0;
  let sum = 0;
  const run = async () => {
    const start = performance.now();
    let left = count;
    const lane = async ({ read }: (typeof readers)[number]) => {
      while (left-- > 0) {
        const block = (next++ * 797) % BLOCKS; // prime to their number: each once, in no order
        const word = await read(block);
        sum = (sum + block + word) | 0; // only now: the other lanes add to it as well
      }
    };
    await inTime(Promise.all(readers.map(lane)), () => `${left} of ${count} reads not begun`);
    return performance.now() - start;
  };
  return { name, isAsync: true, run, checksum: () => sum };
}

/** Reads a second, whole path. Everything that it opens is closed when it is over. */
export async function benchBlk(amount: Amount): Promise<Case[]> {
  using file = makeFile();
  await using owner = new Kernel().spawn({ comm: "bench", memoryBytes: 32 << 20 });
  const cases: Case[] = [];
  for (const disk of DISKS) {
    await using wasm = await openDisk(owner, disk, "wasm", file.path);
    await using ts = await openDisk(owner, disk, "ts", file.path);
    await using fs = await openFs(file.path);
    for (const depth of DEPTHS) {
      const count = amount.items;
      const works = [
        readWork("wasm", wasm, depth, count),
        readWork("ts", ts, depth, count),
        readWork("fs.promises", fs, depth, count),
      ];
      const measured = await compare(works, amount);
      const sameWork = works.map(({ name }) => name).slice(0, disk === "null" ? 2 : 3);
      const facts = { disk, depth };
      cases.push({ bench: "blk", name: `${disk}, depth ${depth}`, facts, sameWork, measured });
    }
  }
  return cases;
}
