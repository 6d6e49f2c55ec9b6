import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { checkImage } from "../devices/blk-file.js";
import { blk, Kernel, type Process } from "../index.js";
import type { RingKind } from "../ring/load.js";
import { VhostError } from "../spec/errno.js";
import { copyDisk, hashDisk, hashFile, makeEmpty, type Run, trim } from "./demo-runs.js";
import { Progress } from "./progress.js";
import { processTable, runTable } from "./tables.js";

const MEMORY_BYTES = 64 << 20;
const DEPTH_MAX = 256;

interface DemoOptions {
  depth: number;
}

function parseDepth(text: string): number {
  const depth = Number(text);
  if (Number.isInteger(depth) && depth >= 1 && depth <= DEPTH_MAX) return depth;
  throw new InvalidArgumentError(`It is a whole number from 1 to ${DEPTH_MAX}.`);
}

/** `vhost-wasm demo [FILE]`: the main job, on a real file. */
export function demoCommand(): Command {
  return new Command("demo")
    .description(
      "Open a file as a virtio disk, read all of it through the ring, copy it through a " +
        "second disk, and check both by SHA-256. The file itself is only read.",
    )
    .argument("[file]", "the file (default: the Node program that is running)")
    .option("-d, --depth <n>", "requests in flight", parseDepth, 32)
    .addHelpText(
      "after",
      "\nThe exit status is 0 when every checksum agrees, else 1.\n" +
        "The copy goes to a folder of its own below the system's folder for temporary files\n" +
        "(TMPDIR), which is removed at the end.",
    )
    .action(demo);
}

/** One ring's part: reads the whole file, and gives its checksum and its speed. */
async function readWith(
  vmm: Process,
  file: string,
  ring: RingKind,
  depth: number,
  progress: Progress,
): Promise<Run> {
  const { sizeBytes } = checkImage(file, true);
  await using disk = await vmm.open(blk({ file, readOnly: true }), { ring });
  const drive = await disk.driver();
  return await hashDisk(
    drive,
    sizeBytes,
    depth,
    progress.phase(`read, ${ring} ring`, drive.sizeBytes),
  );
}

/** Copies the file through two disks, then reads the copy back through the ring and directly. */
async function copyWith(
  vmm: Process,
  file: string,
  copy: string,
  depth: number,
  progress: Progress,
): Promise<{ copied: Run; readBack: Run; direct: string }> {
  const { sizeBytes } = checkImage(file, true);
  makeEmpty(copy, sizeBytes);
  await using source = await vmm.open(blk({ file, readOnly: true }));
  await using target = await vmm.open(blk({ file: copy }));
  const [from, to] = [await source.driver(), await target.driver()];
  const copied = await copyDisk(from, to, depth, progress.phase("copy", from.sizeBytes));
  const readBack = await hashDisk(
    to,
    sizeBytes,
    depth,
    progress.phase("read the copy", to.sizeBytes),
  );
  await target.close();
  trim(copy, sizeBytes);
  return { copied, readBack, direct: await hashFile(copy, progress.phase("check", sizeBytes)) };
}

/** Throws EIO unless all checksums are the first one. */
function mustAgree(expected: string, found: Record<string, string>): void {
  for (const [what, sha256] of Object.entries(found)) {
    if (sha256 === expected) continue;
    throw new VhostError("EIO", `${what} has SHA-256 ${sha256}, but the file has ${expected}`);
  }
}

async function demo(given: string | undefined, { depth }: DemoOptions): Promise<void> {
  const file = given ?? process.execPath;
  const { sizeBytes } = checkImage(file, true);
  const folder = makeFolder();
  const progress = new Progress();
  const cleanUp = () => rmSync(folder, { recursive: true, force: true });
  process.once("exit", cleanUp);
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => process.exit(signal === "SIGINT" ? 130 : 143));
  }
  console.log(`${file}: ${sizeBytes} bytes, up to ${depth} requests in flight\n`);

  const kernel = new Kernel();
  await using vmm = kernel.spawn({
    comm: "vmm",
    uid: 1000,
    gid: 1000,
    rlimits: { NPROC: 4 },
    cgroup: "/tenants/demo",
    memoryBytes: MEMORY_BYTES,
  });
  await showProcesses(kernel, vmm, file);
  const expected = await hashFile(file, progress.phase("read directly", sizeBytes));
  const wasm = await readWith(vmm, file, "wasm", depth, progress);
  const ts = await readWith(vmm, file, "ts", depth, progress);
  const copy = await copyWith(vmm, file, join(folder, basename(file)), depth, progress);
  progress.stop();

  console.log("What each pass took, with the hashing of what was read:");
  console.log(
    runTable({ "read, wasm ring": wasm, "read, ts ring": ts, "copy, wasm ring": copy.copied }),
  );
  mustAgree(expected, {
    "what the wasm ring read": wasm.sha256,
    "what the ts ring read": ts.sha256,
    "the copy, read through the ring,": copy.readBack.sha256,
    "the copy, read directly,": copy.direct,
  });
  console.log(`\nSHA-256 ${expected}\nThe file, both rings and the copy agree.`);
}

/** A folder of our own for the copy. Throws EACCES, saying what to do. */
function makeFolder(): string {
  try {
    return mkdtempSync(join(tmpdir(), "vhost-wasm-"));
  } catch (error) {
    const how = "set TMPDIR to a folder that may be written to";
    throw new VhostError("EACCES", `no room for the copy in ${tmpdir()}: ${how}`, {}, error);
  }
}

/** Shows the owner with a worker of its own, as the task table has them while a disk is open. */
async function showProcesses(kernel: Kernel, vmm: Process, file: string): Promise<void> {
  await using _disk = await vmm.open(blk({ file, readOnly: true }));
  console.log("The processes while the disk is open (S: R runs, S sleeps):");
  console.log(`${processTable(kernel.ps())}\n`);
}
