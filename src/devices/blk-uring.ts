import { closeSync, fstatSync } from "node:fs";
import { availableParallelism } from "node:os";
import { IoPool } from "../io-uring/io-pool.js";
import { IO_WQ_HASH_BUCKETS } from "../io-uring/io-work.js";
import { allocIouMemory } from "../io-uring/state-block.js";
import { IOVEC_BYTES } from "../spec/io-uring.js";
import type { DeviceHost, DeviceParts } from "../vhost/device.js";
import { openLocked } from "./blk-file.js";
import { type BlkUringParts, STEP_PIECES_MAX } from "./blk-uring-io.js";

/** Entries of the SQ. */
const SQ_ENTRIES = 128;
/** Steps with all the pieces there can be that have iovecs at a time. */
const LONG_STEPS = 4;
/** Io workers a processor. Linux: io_init_wq_offload(). */
const WORKERS_PER_CPU = 4;

/**
 * Makes, in the opening thread, what a disk over io_uring is made of: the image, open; the ring, in
 * the host's part of the memory; the io workers, threads of the owner's process, the first of
 * them at once. Throws what `openLocked` and copyProcess throw (EAGAIN at a limit), and ENOMEM:
 * nothing is kept then.
 */
export function prepareUring(
  path: string,
  isReadOnly: boolean,
  host: DeviceHost,
): { parts: BlkUringParts } & Pick<DeviceParts, "close"> {
  const { kernel, owner: task, shared, wakeFd, isInline, ringKind, claims, isFurther } = host;
  const undo: (() => void)[] = [];
  const release = () => {
    for (const step of undo.splice(0).reverse()) step();
  };
  try {
    const { fd, sizeBytes } = openLocked(path, isReadOnly, claims, isFurther);
    undo.push(() => closeSync(fd));
    const hash = fstatSync(fd).ino % IO_WQ_HASH_BUCKETS;
    const layout = allocIouMemory(shared, { entries: SQ_ENTRIES }, "host");
    undo.push(layout.release);
    const { sqEntries, cqEntries, kernel: kernelBlock, application } = layout;
    const ring = { sqEntries, cqEntries, kernel: kernelBlock, application };
    const bytes = LONG_STEPS * STEP_PIECES_MAX * IOVEC_BYTES;
    const iovecs = { address: shared.allocHost(bytes), bytes };
    undo.push(() => shared.host.free(iovecs.address));
    const workersMax = Math.min(sqEntries, WORKERS_PER_CPU * availableParallelism());
    const { memory } = shared;
    const submitter = host.worker.words;
    const pool = new IoPool({ kernel, task, submitter, memory, workersMax, wakeFd });
    const table = pool.table.buffer;
    const parts = { fd, sizeBytes, hash, table, submitter, ring, ringKind, iovecs, isInline };
    return { parts, close: () => pool.close().then(release) };
  } catch (error) {
    release();
    throw error;
  }
}
