// What a thread does with io_uring.

import { OpenFile } from "#dist/kernel/files.js";
import { ONLINE_CPUS } from "#dist/kernel/sched.js";
import type { Task } from "#dist/kernel/task.js";
import { ScriptError, SyscallError } from "./errors.js";
import { FileCalls } from "./file-calls.js";
import { type Cqe, IoRequest, OPS, type Sqe } from "./io-request.js";
import { attached, IoUring, type IoUringParams } from "./io-uring.js";
import { IoWq } from "./io-wq.js";
import { Pipe } from "./pipe.js";

const INT_MAX = 0x7fffffff;

/** The part of a thread that has to do with rings of io_uring. */
export abstract class UringCalls extends FileCalls {
  /**
   * A ring. EINVAL: `entries` not 1 to 32768, `sqThreadCpu` not online or without `sqpoll`,
   * `attachWq` no ring; ENXIO: that is not open; else what making the polling thread fails with.
   */
  ioUringSetup(params: IoUringParams = {}): number {
    const { entries = 8, sqpoll = false, sqThreadCpu, attachWq } = params;
    return this.call(() => {
      const ring = new IoUring(this.machine, entries, (request) => this.#openFor(request));
      if (sqThreadCpu !== undefined && !(sqpoll && ONLINE_CPUS.includes(sqThreadCpu))) {
        throw new SyscallError("EINVAL");
      }
      const other = attachWq === undefined ? undefined : this.#attached(attachWq);
      if (sqpoll) ring.pollFor(this.task, sqThreadCpu, other);
      const file = new OpenFile(() => {
        ring.release(this.machine.ioWqs);
        this.machine.rings.delete(ring);
      });
      this.machine.opened.set(file, ring);
      this.machine.rings.add(ring);
      const fd = this.install(file);
      this.#wqOf(this.task, ring);
      return fd;
    });
  }

  /** io_uring_enter(2) with one submission. EBADF, EOPNOTSUPP: no ring. */
  ioUringSubmit(fd: number, sqe: Sqe): string {
    if (!Object.hasOwn(OPS, sqe.opcode)) {
      throw new ScriptError(`${sqe.opcode} is none of ${Object.keys(OPS).join(" ")}`);
    }
    return this.try(() => {
      const ring = this.#ring(fd);
      const file = sqe.fd === undefined ? undefined : this.files.fds.get(sqe.fd);
      const opened = file && this.machine.opened.get(file);
      const fifo = sqe.path === undefined ? undefined : this.machine.fifos.get(sqe.path);
      const submitter = ring.poller ?? this.task;
      ring.submit(new IoRequest(ring, sqe, opened, file, fifo), this.#wqOf(submitter, ring));
    });
  }

  /**
   * Submits a request marked IOSQE_ASYNC, which is never done: a read of a pipe that stays empty,
   * or an open of a FIFO that nobody writes.
   */
  ioUringSubmitAsync(fd: number, what: "read-empty-pipe" | "openat-fifo" = "read-empty-pipe") {
    return this.try(() => {
      const ring = this.#ring(fd);
      const pipe = new Pipe();
      const isRead = what === "read-empty-pipe";
      const opcode = isRead ? "IORING_OP_READ" : "IORING_OP_OPENAT";
      const end = isRead ? { pipe: Object.assign(pipe, { writers: 1 }), reads: true } : undefined;
      const file = end && new OpenFile(() => {});
      const sqe: Sqe = { opcode, flags: ["IOSQE_ASYNC"] };
      const request = new IoRequest(ring, sqe, end, file, isRead ? undefined : pipe);
      ring.submit(request, this.#wqOf(ring.poller ?? this.task, ring));
    });
  }

  /** Takes the completions that there are, the oldest first. Throws EBADF, EOPNOTSUPP. */
  ioUringCqes(fd: number): Cqe[] {
    return this.call(() => this.#ring(fd).completions.splice(0));
  }

  /**
   * IORING_REGISTER_IOWQ_MAX_WORKERS: writes the old values over `counts`, zeros for a thread that
   * has no workers to be. EINVAL: more than INT_MAX, not two values, NULL.
   */
  ioUringRegisterMaxWorkers(fd: number, counts?: number[]): string {
    return this.try(() => {
      const ring = this.#ring(fd);
      const isRight = counts?.length === 2 && counts.every((one) => one >= 0 && one <= INT_MAX);
      if (counts === undefined || !isRight) throw new SyscallError("EINVAL");
      const owner = ring.poller ?? this.task;
      const isNew = !this.machine.ioWqs.has(owner);
      const [bounded = 0, unbounded = 0] = counts;
      const old = this.#wqOf(owner, ring).setMax(bounded, unbounded);
      [counts[0], counts[1]] = isNew ? [0, 0] : old;
    });
  }

  /** IORING_REGISTER_IOWQ_AFF: where workers made from now on may run. EINVAL: nowhere. */
  ioUringRegisterIowqAff(fd: number, cpus: readonly number[]): string {
    return this.try(() => {
      const ring = this.#ring(fd);
      const online = ONLINE_CPUS.filter((cpu) => cpus.includes(cpu));
      if (online.length === 0) throw new SyscallError("EINVAL");
      this.#wqOf(ring.poller ?? this.task, ring).cpus = online;
    });
  }

  /** Time passes, for all: what is idle may end. */
  sleep(seconds: number): void {
    this.call(() => this.machine.pass(seconds));
  }

  #openFor({ fifo }: IoRequest): number {
    const none = new OpenFile(() => {});
    const file = fifo && this.pipeEnd({ pipe: fifo, reads: true, writes: false });
    return this.install(file ?? none);
  }

  #ring(fd: number): IoUring {
    const ring = this.machine.opened.get(this.file(fd));
    if (ring instanceof IoUring) return ring;
    throw new SyscallError("EOPNOTSUPP");
  }

  #attached(fd: number): IoUring {
    const file = this.files.fds.get(fd);
    return attached(file, file && this.machine.opened.get(file));
  }

  /** Workers of a thread. The first ring that it names says how many may be bounded. */
  #wqOf(owner: Task, ring: IoUring): IoWq {
    const { ioWqs } = this.machine;
    const wq = ioWqs.get(owner) ?? new IoWq(this.machine, owner, ring.entries);
    ioWqs.set(owner, wq);
    return wq;
  }
}
