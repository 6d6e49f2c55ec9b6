import type { CurrentTask } from "../kernel/task-thread.js";
import type { RingKind } from "../ring/load.js";
import { errno } from "../spec/errno.js";
import { IO_RINGS_CQ_TAIL, IOU_RINGS } from "../spec/io-uring.js";
import { TASK_INTERRUPTIBLE, TASK_RUNNING } from "../spec/sched.js";
import type { FileTable, RingFile } from "./file-table.js";
import { loadIouRings } from "./load.js";
import { RingCtx } from "./ring-ctx.js";
import { TableQueue } from "./table-queue.js";
import { WorkTable } from "./work-table.js";

/** How long a thread that ends waits before it looks again, in milliseconds. */
const LOOK_MS = 10;

/** What the thread is given when it starts. */
export interface SqThreadArg {
  readonly memory: WebAssembly.Memory;
  /** First address that SQEs may name. */
  readonly guestStart: number;
  readonly kind: RingKind;
  /** The kernel's state block, and entries. */
  readonly ring: {
    readonly kernel: number;
    readonly sqEntries: number;
    readonly cqEntries: number;
  };
  readonly table: SharedArrayBuffer;
  /** Files by descriptor. */
  readonly files: readonly (readonly [fd: number, file: Omit<RingFile, "count" | "put">])[];
  /** Milliseconds without work after which it sleeps. */
  readonly idleMs: number;
}

/**
 * What the thread runs that takes SQEs without being entered: it looks at the SQ for as long as
 * there is work, and for `idleMs` more; then it shows IORING_SQ_NEED_WAKEUP, looks once more, and
 * sleeps until it is woken. Between two looks it is stopped, frozen, and held for its group's CPU
 * time. Blocks. Linux: io_sq_thread().
 */
export function sqThread(arg: SqThreadArg, current: CurrentTask): void {
  const sq = new SqThread(arg);
  for (let idleSince = performance.now(); !current.shouldStop(); ) {
    if (!current.mayRun()) {
      current.hold();
      continue;
    }
    if (sq.look()) {
      idleSince = performance.now();
      continue;
    }
    if (performance.now() - idleSince < arg.idleMs) continue;
    current.setState(TASK_INTERRUPTIBLE);
    sq.needsWakeup = true; // Q5: before the last look; the application looks at it after its tail
    if (!sq.look() && !current.signalPending()) current.schedule(sq.sleepMsMax());
    current.setState(TASK_RUNNING);
    sq.needsWakeup = false;
    idleSince = performance.now();
  }
  sq.end();
}

/** The ring, and its work. */
class SqThread {
  readonly #ctx: RingCtx;
  readonly #queue: TableQueue;
  readonly #table: WorkTable;
  readonly #words: Int32Array;
  readonly #tail: number;

  constructor({ memory, guestStart, kind, ring: layout, table, files }: SqThreadArg) {
    const view = new DataView(memory.buffer);
    this.#table = new WorkTable(table);
    this.#queue = new TableQueue(this.#table, () => performance.now());
    this.#words = new Int32Array(memory.buffer);
    this.#tail = (view.getUint32(layout.kernel + IOU_RINGS, true) + IO_RINGS_CQ_TAIL) >>> 2;
    const bytes = new Uint8Array(memory.buffer);
    this.#ctx = new RingCtx({
      memory: { memory, view, bytes, guestStart },
      ring: loadIouRings(memory, kind).kernel(layout.kernel),
      layout,
      files: fixedFiles(files),
      wq: this.#queue,
    });
  }

  /** Takes what was submitted, completes what is done. Whether there was anything. */
  look(): boolean {
    const wasDone = this.#queue.reap();
    const wasPosted = this.#ctx.flush();
    const taken = this.#ctx.enter();
    this.#queue.kick();
    this.#queue.tend();
    if (!wasDone && !wasPosted && taken <= 0) return false;
    Atomics.notify(this.#words, this.#tail); // after the CQEs: who waits for them looks again
    return true;
  }

  set needsWakeup(value: boolean) {
    this.#ctx.needsWakeup = value;
  }

  sleepMsMax(): number {
    return this.#queue.isDone ? 0 : this.#queue.tend();
  }

  /** What waits is cancelled, what is being done is waited for. */
  end(): void {
    void this.#ctx.close();
    while (this.#ctx.held > 0) {
      const seen = this.#table.doneSeq;
      if (!this.#queue.reap()) this.#table.waitDone(seen, LOOK_MS);
    }
  }
}

/** Files that stay as they are. */
function fixedFiles(list: SqThreadArg["files"]): FileTable {
  const files = new Map(list.map(([fd, file]) => [fd, { ...file, count: 1, put: () => {} }]));
  return {
    get: (fd) => files.get(fd),
    install: () => -errno.EOPNOTSUPP,
    close: (fd) => (files.has(fd) ? -errno.EOPNOTSUPP : -errno.EBADF),
  };
}
