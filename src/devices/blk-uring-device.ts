import { fdatasyncSync } from "node:fs";
import { errno } from "../spec/errno.js";
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  IORING_FSYNC_DATASYNC,
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_WRITE,
} from "../spec/io-uring.js";
import {
  VIRTIO_BLK_HEADER_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_SECTOR_BYTES,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../spec/virtio-blk.js";
import type { Chain, ChainSide, HeldChain } from "../vhost/chain.js";
import type { VirtioDevice } from "../vhost/device.js";
import { HELD, type Virtqueue } from "../vhost/virtqueue.js";
import { BlkBase, type BlkShape, type BlkShared } from "./blk-base.js";
import { type BlkStep, type BlkUringIo, STEP_PIECES_MAX } from "./blk-uring-io.js";

/**
 * So many requests are under way at most, of all queues: a driver may make more available than its
 * rings have room for (policy linux does not count them), and each takes memory.
 */
const JOBS_MAX = 1024;
const DATASYNC: BlkStep = { op: IORING_OP_FSYNC, offset: 0, flags: IORING_FSYNC_DATASYNC };
const MODE_DISCARD = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
const MODE_ZEROES = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

/** A request that is under way: its steps are done one after the other. */
interface BlkJob {
  readonly id: number;
  readonly vq: Virtqueue;
  readonly chain: HeldChain;
  readonly type: number;
  /** What is to be done still; the first of it is being done, or waits for room. */
  readonly steps: BlkStep[];
  /** IN: bytes that the file has of what is asked for. */
  readonly expected: number;
  /** Its queue was taken away: nobody wants the answer. */
  isDropped: boolean;
}

/**
 * A block device over a file whose I/O is done by io workers: what the guest asks for begins when
 * it is seen, and is answered when it is done, in any order. A flush makes stable all that was
 * answered before it came, as the specification has it. virtio 1.3, 5.2 Block Device.
 */
export class BlkUringDevice extends BlkBase implements VirtioDevice {
  readonly answersLater = true;
  readonly #io: BlkUringIo;
  readonly #shape: BlkShape;
  readonly #fd: number;
  readonly #isInline: boolean;
  readonly #jobs = new Map<number, BlkJob>();
  /** Jobs whose next step found no room. */
  #waiting: BlkJob[] = [];
  readonly #answered = new Set<Virtqueue>();
  /** Queues that are to be looked at again when there is less to do. */
  readonly #left = new Set<Virtqueue>();
  /** Queues that are to stop, by number; `undefined`: all. They take nothing new. */
  readonly #settling = new Set<number | undefined>();
  #lastId = 0;

  /**
   * `fd`: the image, the opening thread's to close. `shared`: in a further worker, the first's.
   */
  constructor(
    io: BlkUringIo,
    shape: BlkShape,
    parts: { fd: number; isInline: boolean },
    shared?: BlkShared,
  ) {
    super(shape, shared);
    this.#io = io;
    this.#shape = shape;
    this.#fd = parts.fd;
    this.#isInline = parts.isInline;
  }

  protected flushNow(): void {
    try {
      fdatasyncSync(this.#fd);
    } catch {
      // the next flush, or write, says so
    }
  }

  handleKick(vq: Virtqueue): void {
    if (this.#settling.has(undefined) || this.#settling.has(vq.index)) return;
    const room = () => JOBS_MAX - this.#jobs.size;
    if (room() > 0) vq.drain((chain) => this.#request(chain, vq), room);
    if (this.#jobs.size >= JOBS_MAX) this.#left.add(vq);
    this.#io.submit();
  }

  poll(): boolean {
    const isAny = this.#io.poll((id, res) => this.#stepDone(id, res));
    if (this.#isInline) this.#io.tend();
    if (!isAny) return false;
    for (const vq of this.#answered) vq.flush();
    this.#answered.clear();
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const job of waiting) this.#next(job);
    this.#io.submit();
    this.#lookAgain();
    return true;
  }

  #lookAgain(): void {
    if (this.#jobs.size > JOBS_MAX / 2) return;
    for (const vq of this.#left) vq.revisit();
    this.#left.clear();
  }

  sleepMsMax(): number {
    return this.#io.isDone ? 0 : this.#io.tend();
  }

  async settle(how: "finish" | "drop", index?: number): Promise<void> {
    const isMeant = ({ vq }: BlkJob) => index === undefined || vq.index === index;
    this.#settling.add(index); // without a thread, handleKick may be called meanwhile
    try {
      if (how === "drop") this.#drop(isMeant);
      for (;;) {
        this.poll();
        if (![...this.#jobs.values()].some(isMeant)) return;
        if (this.#io.isOver) this.#drop(isMeant); // io workers that are stopped begin nothing
        await this.#io.wait();
      }
    } finally {
      this.#settling.delete(index);
    }
  }

  #drop(isMeant: (job: BlkJob) => boolean): void {
    for (const job of this.#jobs.values()) if (isMeant(job)) job.isDropped = true;
    for (const job of this.#waiting) if (job.isDropped) this.#jobs.delete(job.id);
    this.#waiting = this.#waiting.filter(({ isDropped }) => !isDropped);
    this.#io.cancel((id) => this.#jobs.get(id)?.isDropped ?? false);
  }

  /** One request: begins it and holds the chain, or answers at once. virtio 1.3, 5.2.6. */
  #request(chain: Chain, vq: Virtqueue): number {
    const answer = this.answerUnfit(chain, vq);
    if (answer !== undefined) return answer;
    const { readable, writable } = chain;
    const statusAt = writable.bytes - 1;
    const type = readable.u32(0);
    const sector = readable.u32(8) + readable.u32(12) * 2 ** 32;
    if (type === VIRTIO_BLK_T_GET_ID) {
      return this.finish(writable, type, this.getId(writable, statusAt));
    }
    const steps = this.#plan(type, sector, readable, writable);
    if (typeof steps === "number") return this.finish(writable, type, steps);
    const offset = sector * VIRTIO_BLK_SECTOR_BYTES;
    const expected = Math.min(statusAt, this.#shape.sizeBytes - offset);
    const held = vq.hold(chain);
    const id = this.#nextId();
    const job = { id, vq, chain: held, type, steps, expected, isDropped: false };
    this.#jobs.set(id, job);
    this.#next(job);
    return HELD;
  }

  #nextId(): number {
    do this.#lastId = (this.#lastId + 1) >>> 0;
    while (this.#jobs.has(this.#lastId));
    return this.#lastId;
  }

  /** What is to be done, or the status when that is nothing. */
  #plan(type: number, sector: number, readable: ChainSide, writable: ChainSide) {
    switch (type) {
      case VIRTIO_BLK_T_IN:
        return this.#planIn(sector, writable);
      case VIRTIO_BLK_T_OUT:
        return this.#planOut(sector, readable);
      case VIRTIO_BLK_T_FLUSH:
        return [DATASYNC];
      case VIRTIO_BLK_T_DISCARD:
      case VIRTIO_BLK_T_WRITE_ZEROES:
        return this.#planSegments(type, readable);
      default:
        return VIRTIO_BLK_S_UNSUPP;
    }
  }

  #planIn(sector: number, writable: ChainSide): BlkStep[] | number {
    const length = writable.bytes - 1;
    if (!this.isWithin(sector, length)) return VIRTIO_BLK_S_IOERR;
    if (length === 0) return VIRTIO_BLK_S_OK;
    return moves(IORING_OP_READ, sector * VIRTIO_BLK_SECTOR_BYTES, writable, 0, length);
  }

  #planOut(sector: number, readable: ChainSide): BlkStep[] | number {
    const length = readable.bytes - VIRTIO_BLK_HEADER_BYTES;
    if (this.#shape.isReadOnly || !this.isWithin(sector, length)) return VIRTIO_BLK_S_IOERR;
    if (length === 0) return VIRTIO_BLK_S_OK;
    const offset = sector * VIRTIO_BLK_SECTOR_BYTES;
    return moves(IORING_OP_WRITE, offset, readable, VIRTIO_BLK_HEADER_BYTES, length);
  }

  #planSegments(type: number, readable: ChainSide): BlkStep[] | number {
    const count = this.readSegments(type, readable);
    if (count < 0) return -count;
    const flags = type === VIRTIO_BLK_T_DISCARD ? MODE_DISCARD : MODE_ZEROES;
    const segments = Array.from({ length: count }, (_, i) => this.segment(i));
    const steps = segments
      .filter(({ lengthBytes }) => lengthBytes > 0)
      .map(({ offset, lengthBytes: bytes }) => ({
        ...{ op: IORING_OP_FALLOCATE, offset, bytes, flags },
      }));
    return steps.length > 0 ? steps : VIRTIO_BLK_S_OK;
  }

  #next(job: BlkJob): void {
    const step = job.steps[0] as BlkStep;
    const isFirst = this.#waiting.length === 0;
    if (!isFirst || !this.#io.start(job.id, step)) this.#waiting.push(job);
  }

  /** A step of a job is done, and what is left of it comes next, or the answer. */
  #stepDone(id: number, res: number): void {
    const job = this.#jobs.get(id);
    if (job === undefined) return;
    const step = job.steps.shift() as BlkStep;
    if (job.isDropped) {
      this.#jobs.delete(id);
      return;
    }
    const failure = this.#judge(job, step, res);
    if (failure !== 0) {
      job.vq.failed(failure);
      this.#answer(job, VIRTIO_BLK_S_IOERR);
    } else if (job.steps.length > 0) this.#next(job);
    else this.#answer(job, VIRTIO_BLK_S_OK);
  }

  /**
   * 0, or the error number that the request fails with. What a short write left is tried, too: that
   * says why it was short. In write-through mode what was written is made stable last.
   */
  #judge(job: BlkJob, { op, offset, pieces = [] }: BlkStep, res: number): number {
    if (op === IORING_OP_FALLOCATE && job.type === VIRTIO_BLK_T_DISCARD) return 0; // a hint
    if (res < 0) return -res;
    const wanted = pieces.reduce((sum, [, bytes]) => sum + bytes, 0);
    if (op === IORING_OP_READ) return res < this.#expected(offset, wanted) ? errno.EIO : 0;
    if (op === IORING_OP_WRITE && res < wanted) {
      if (res === 0) return errno.EIO;
      job.steps.unshift({ op, offset: offset + res, pieces: rest(pieces, res) });
    } else if (op !== IORING_OP_FSYNC && job.steps.length === 0 && !this.isWriteback) {
      job.steps.push(DATASYNC);
    }
    return 0;
  }

  /** The last sector of the file may be short. */
  #expected(offset: number, wanted: number): number {
    return Math.max(0, Math.min(wanted, this.#shape.sizeBytes - offset));
  }

  #answer({ id, vq, chain, type, expected }: BlkJob, status: number): void {
    this.#jobs.delete(id);
    const { writable } = chain;
    if (type === VIRTIO_BLK_T_IN && status === VIRTIO_BLK_S_OK) {
      writable.fill(expected, writable.bytes - 1 - expected, 0);
    }
    vq.answer(chain, this.finish(writable, type, status));
    this.#answered.add(vq);
  }
}

/** Steps that move a part of a chain from or to the file. */
function moves(op: number, offset: number, side: ChainSide, at: number, length: number): BlkStep[] {
  const steps: BlkStep[] = [];
  let pieces: [number, number][] = [];
  let next = offset;
  let bytes = 0;
  const push = () => {
    steps.push({ op, offset: next, pieces });
    next += bytes;
    pieces = [];
    bytes = 0;
  };
  side.forEach(at, length, (address, pieceBytes) => {
    if (pieces.length === STEP_PIECES_MAX) push();
    pieces.push([address, pieceBytes]);
    bytes += pieceBytes;
  });
  push();
  return steps;
}

/** What is left of pieces after `done` bytes. */
function rest(
  pieces: NonNullable<BlkStep["pieces"]>,
  done: number,
): readonly (readonly [number, number])[] {
  let skip = done;
  const left: [number, number][] = [];
  for (const [address, bytes] of pieces) {
    const taken = Math.min(skip, bytes);
    skip -= taken;
    if (taken < bytes) left.push([address + taken, bytes - taken]);
  }
  return left;
}
