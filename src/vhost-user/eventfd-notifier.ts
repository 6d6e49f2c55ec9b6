import type { CurrentTask } from "../kernel/task-thread.js";
import { drainEventfd, signalEventfd } from "../linux/eventfd.js";
import { libc } from "../linux/libc.js";
import { type FsIdentity, nameThread, takeFsIdentity } from "../linux/thread-identity.js";
import type { RingStart } from "../vhost/control.js";
import type { Notifier } from "../vhost/notifier.js";

/** What a notifier in a worker's thread is made of. */
export interface EventfdNotifierOptions {
  /** Ends the worker's sleep; the session's to close. */
  wakeFd: number;
  /** The thread's name. */
  comm: string;
  /** In whose name the thread opens files; without it, in the program's. */
  identity?: FsIdentity | undefined;
}

// struct pollfd: int fd, short events, short revents.
const POLLFD_BYTES = 8;
const POLLFD_EVENTS = 4;
const POLLFD_REVENTS = 6;
const POLLIN = 0x1;
/** The longest sleep, so that a program that exits is not kept by it for longer. */
const SLEEP_MS_MAX = 1000;
/** The longest sleep while a ring has no kick to wake us: its driver wants it polled. */
const SLEEP_MS_KICKLESS = 1;
/** A busy worker looks for first kicks once in so many passes. */
const PASSES_A_LOOK = 32;

/**
 * Kicks and calls by eventfds, and `poll` to sleep. While the worker looks at the rings itself, the
 * eventfds are left alone; only rings that wait for their first kick need them then.
 */
export class EventfdNotifier implements Notifier {
  readonly #wakeFd: number;
  readonly #identity: FsIdentity | undefined;
  readonly #callFds = new Map<number, number>();
  readonly #errFds = new Map<number, number>();
  readonly #awaiting = new Set<number>();
  /** Queues whose kick is polled, in the order of `#pollfds` after the wake descriptor. */
  #queues: number[] = [];
  #pollfds: DataView;
  #isKickless = false;
  #kicks = 0;
  #passes = 0;

  /** Names the thread. */
  constructor({ wakeFd, comm, identity }: EventfdNotifierOptions) {
    nameThread(comm);
    this.#wakeFd = wakeFd;
    this.#identity = identity;
    this.#pollfds = pollfdsOf([wakeFd]);
  }

  setQueues(rings: readonly RingStart[]): void {
    this.#callFds.clear();
    this.#errFds.clear();
    this.#awaiting.clear();
    for (const { index, callFd, errFd, awaitsKick } of rings) {
      if (callFd !== undefined) this.#callFds.set(index, callFd);
      if (errFd !== undefined) this.#errFds.set(index, errFd);
      if (awaitsKick) this.#awaiting.add(index);
    }
    const kicked = rings.filter(({ kickFd }) => kickFd !== undefined);
    this.#isKickless = kicked.length < rings.length;
    this.#queues = kicked.map(({ index }) => index);
    this.#pollfds = pollfdsOf([this.#wakeFd, ...kicked.map(({ kickFd }) => kickFd as number)]);
    this.#kicks = 0;
    this.#passes = 0;
  }

  isKickless(queue: number): boolean {
    return this.#isKickless && !this.#queues.includes(queue);
  }

  takeKicks(all = false): number {
    const isDue = this.#awaiting.size > 0 && this.#passes++ % PASSES_A_LOOK === 0;
    if (all || isDue) this.#poll(0);
    const kicks = this.#kicks;
    this.#kicks = 0;
    return kicks;
  }

  /** None: one that is in an eventfd ends the sleep. */
  hasKicks(): boolean {
    return this.#kicks !== 0;
  }

  call(queue: number): void {
    const fd = this.#callFds.get(queue);
    if (fd !== undefined) signalEventfd(fd);
  }

  error(queue: number, count: number): void {
    const fd = this.#errFds.get(queue);
    if (fd !== undefined) signalEventfd(fd, count);
  }

  /** Files are opened in the owner's name. Throws EPERM when that may not be. */
  actForOwner(): void {
    if (this.#identity) takeFsIdentity(this.#identity);
  }

  sleep(task: CurrentTask, timeoutMs = SLEEP_MS_MAX): void {
    const longest = this.#isKickless ? SLEEP_MS_KICKLESS : SLEEP_MS_MAX;
    task.scheduleBy(() => this.#poll(Math.min(timeoutMs, longest)));
  }

  /** Waits, and takes what came. */
  #poll(timeoutMs: number): void {
    const pollfds = this.#pollfds;
    const ready = libc().poll(pollfds, this.#queues.length + 1, timeoutMs);
    if (ready <= 0) return;
    if (pollfds.getInt16(POLLFD_REVENTS, true) !== 0) drainEventfd(this.#wakeFd);
    for (const [i, queue] of this.#queues.entries()) {
      const at = (i + 1) * POLLFD_BYTES;
      if (pollfds.getInt16(at + POLLFD_REVENTS, true) === 0) continue;
      drainEventfd(pollfds.getInt32(at, true));
      this.#kicks |= 1 << queue;
      this.#awaiting.delete(queue);
    }
  }
}

function pollfdsOf(fds: readonly number[]): DataView {
  const view = new DataView(new ArrayBuffer(fds.length * POLLFD_BYTES));
  for (const [i, fd] of fds.entries()) {
    view.setInt32(i * POLLFD_BYTES, fd, true);
    view.setInt16(i * POLLFD_BYTES + POLLFD_EVENTS, POLLIN, true);
  }
  return view;
}

/** Makes the notifier. For `NotifierModule`. */
export function createNotifier(options: unknown): Notifier {
  return new EventfdNotifier(options as EventfdNotifierOptions);
}
