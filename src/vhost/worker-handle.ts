import { setTimeout as after } from "node:timers/promises";
import { isHalted } from "../kernel/halt.js";
import type { Kernel } from "../kernel/kernel.js";
import { type Mm, mmget, mmput } from "../kernel/mm.js";
import type { Task } from "../kernel/task.js";
import type { ThreadExit } from "../kernel/thread.js";
import { vhostKthreadCreate } from "../kernel/vhost-kthread.js";
import {
  STOP_GRACE_MS,
  type VhostTask,
  type VhostTaskOptions,
  vhostTaskCreate,
  vhostTaskStart,
  vhostTaskStop,
  vhostTaskWake,
} from "../kernel/vhost-task.js";
import type { RingKind } from "../ring/load.js";
import { VhostError } from "../spec/errno.js";
import { asVhostError, ControlClient, type WorkerControl, type WorkerSetup } from "./control.js";
import { Counters } from "./counters.js";
import { DoorbellNotifier, type NotifierSpec } from "./notifier.js";
import { Doorbell } from "./notify.js";
import { VhostWorker } from "./worker.js";

/** How a worker is run. */
export interface WorkerOptions {
  /** Which ring implementation it uses. Default "wasm". */
  ring?: RingKind;
  /** A real thread, or none: then the caller works by `runPending`. Default "thread". */
  run?: "thread" | "inline";
  /**
   * Microseconds it goes on looking at the rings before it sleeps. Default 50; with policy linux 0,
   * as VHOST_SET_VRING_BUSYLOOP_TIMEOUT's: rings are then looked at when kicked, not else.
   */
  pollMicroseconds?: number;
  /**
   * Whether the worker is made from the owner, as its user worker, or is a kernel thread. Default:
   * the kernel's. Linux: VHOST_SET_FORK_FROM_OWNER; here in every epoch.
   */
  forkFromOwner?: boolean;
  /**
   * Another device's worker, which serves this one as well; of the same owner. It ends with the
   * last of its devices. Not with a notifier.
   */
  worker?: WorkerHandle;
  /** How a thread hears, calls and sleeps, when not by words of shared memory. */
  notifier?: NotifierSpec;
  /** Who waits for calls is woken by errors of rings, too. Default false. Not with a notifier. */
  tellsErrors?: boolean;
}

const POLL_MICROSECONDS_DEFAULT = 50;
/** How soon who waits for a flush sees that the worker has died, in milliseconds. */
const FLUSH_LOOK_MS = 50;
/** A minute. */
const POLL_MICROSECONDS_MAX = 60_000_000;

/** What a device's first worker has for all of them. */
export type WorkerCommon = Pick<WorkerHandle, "doorbell" | "counters">;

/**
 * A worker as its owner's thread has it: to ask, to kick, to stop. Linux: vhost_worker_create().
 */
export class WorkerHandle {
  /** The task in the kernel's table. */
  readonly task: VhostTask;
  /** Notifications between the driver and the worker. */
  readonly doorbell = new Doorbell();
  /** What its device's queues have done, by all workers. */
  readonly counters: Counters;
  /** What can be asked of it. After its end every call rejects. */
  readonly control: WorkerControl;
  /** The worker itself when it has no thread. */
  readonly inline: VhostWorker | undefined;
  /** The eventfd that must be written to as well to wake it; `undefined`: none. */
  readonly wakeFd: number | undefined;
  /** How many devices its task serves. */
  readonly #served: { devices: number };
  readonly #owner: Task;
  readonly #hasNotifier: boolean;
  #isStopping = false;
  #mm: Mm | null;
  readonly #onDeath = new Set<(error: VhostError) => void>();
  #death: VhostError | undefined;

  /**
   * Makes and starts it; `common`: a further one, whose drivers hear of it by the first one's
   * doorbell. Throws what copyProcess throws, with nothing kept.
   */
  constructor(
    kernel: Kernel,
    owner: Task,
    memory: WebAssembly.Memory,
    options: WorkerOptions,
    common?: WorkerCommon,
  ) {
    checkWorkerOptions(options);
    const host = common ? undefined : options.worker;
    if (host) host.#mustServe(owner, options);
    this.#owner = owner;
    this.#hasNotifier = options.notifier !== undefined;
    this.#served = host ? host.#served : { devices: 0 };
    this.counters = common?.counters ?? new Counters();
    const { forkFromOwner = kernel.forkFromOwnerDefault, notifier } = options;
    this.wakeFd = notifier?.wakeFd;
    const create = forkFromOwner ? vhostTaskCreate : vhostKthreadCreate;
    const name = `vhost-${owner.pid}`;
    const setup = {
      memory,
      doorbell: this.doorbell.buffer,
      ...(common && { calls: common.doorbell.buffer }),
      counters: this.counters.buffer,
      ringKind: options.ring ?? "wasm",
      tellsErrors: options.tellsErrors ?? false,
      pollMicroseconds: options.pollMicroseconds ?? POLL_MICROSECONDS_DEFAULT,
    };
    if (options.run === "inline") {
      this.task = host?.task ?? create(kernel, owner, { name, run: "inline" });
      // Its time is its caller's, who is not kept waiting for a rest.
      const parts = { rests: false };
      const bell = new DoorbellNotifier(this.doorbell, { calls: common?.doorbell });
      this.inline = new VhostWorker(setup, bell, parts);
      this.control = this.inline;
    } else {
      const client = new ControlClient(() => {
        this.doorbell.ringControl();
        vhostTaskWake(this.task);
      });
      this.task =
        host?.task ??
        createThread({ name, setup, client, notifier }, (thread) => create(kernel, owner, thread));
      this.control = client.worker;
      this.onDeath((error) => client.fail(error));
      const adopted = host?.control.adopt({ ...setup, control: client.remote });
      adopted?.catch((error) => client.fail(asVhostError(error)));
    }
    this.#served.devices++;
    this.#mm = owner.mm;
    mmget(this.#mm);
    this.task.exited.then((exit) => this.#exited(exit));
    if (!host) vhostTaskStart(this.task);
  }

  /** Throws why it can't serve another device, of `owner` and with these options, as well. */
  #mustServe(owner: Task, { run = "thread", notifier }: WorkerOptions): void {
    if (this.#death) throw this.#death;
    if (this.#isStopping) throw new VhostError("ENODEV", "the device of that worker is closed");
    if (owner !== this.#owner) {
      const { pid } = this.#owner;
      throw new VhostError("EPERM", "that worker is another process's", { pid });
    }
    if ((run === "inline") === (this.inline !== undefined) && !notifier && !this.#hasNotifier)
      return;
    const message = "a worker that serves several devices has one `run`, and no notifier";
    throw new VhostError("EINVAL", message, { run });
  }

  #exited(exit: ThreadExit): void {
    if (this.#death) return;
    this.#death = deathOf(exit, this.#owner);
    for (const listener of this.#onDeath) listener(this.#death);
    this.#onDeath.clear();
  }

  /** Why it ended, by itself or by `stop`. */
  get death(): VhostError | undefined {
    return this.#death;
  }

  /** Calls `listener` once, when it ends or at once if it has. */
  onDeath(listener: (error: VhostError) => void): void {
    if (this.#death) listener(this.#death);
    else this.#onDeath.add(listener);
  }

  /**
   * Entries of `queue` are available. `data`: see `Doorbell.kick`. Kicks to a dead worker vanish.
   */
  kick(queue: number, data?: number): void {
    if (this.#death) return;
    this.doorbell.kick(queue, data);
    vhostTaskWake(this.task);
  }

  /**
   * Without a thread: does all that is pending, in this thread. Returns whether there was anything;
   * a worker that is stopped or frozen does nothing. A turn of each queue is bounded, so call it
   * until it returns false. Throws EINVAL with a thread.
   */
  runPending(): boolean {
    const { inline, task } = this;
    if (!inline)
      throw new VhostError("EINVAL", 'runPending is for devices opened with run: "inline"');
    if (isHalted(task.task)) return false;
    inline.recheckRefused(performance.now());
    const worked = inline.runWorkList();
    return inline.enableKicks() || worked;
  }

  /**
   * Ends it and waits for that; where it serves other devices as well, it leaves this one: while it
   * is stopped or frozen, that may wait for what one of them holds. Without a thread, rejects with
   * what the device's close threw, and has ended when this returns unless the device holds
   * something. The owner's memory is held until then, also when the owner has gone. Called once.
   */
  async stop(): Promise<void> {
    this.#isStopping = true;
    const closed = this.#death ? undefined : this.inline?.detach();
    if (this.inline?.hasDevice === false && this.#served.devices === 1) {
      await Promise.all([closed, this.#end()]); // the device held nothing
      return;
    }
    try {
      await closed;
    } finally {
      await this.#end();
    }
  }

  async #end(): Promise<void> {
    const isLast = --this.#served.devices === 0;
    const ended = isLast ? vhostTaskStop(this.task) : this.#leave();
    if (!this.inline) await ended; // without a thread, nobody is in the memory
    mmput(this.#mm);
    this.#mm = null;
    await ended;
  }

  /**
   * Asks to be told when all that is pending has had a turn: the answer says whether it has, or
   * whether the worker is dead. A worker that is stopped or frozen does not come to it. Linux:
   * vhost_worker_flush().
   */
  flush(): () => boolean {
    const flush = this.doorbell.askFlush();
    vhostTaskWake(this.task);
    return () => this.isDead || this.doorbell.isFlushed(flush);
  }

  /** Resolves when such a flush is done. Not without a thread. */
  async flushed(): Promise<void> {
    const isDone = this.flush();
    const { doorbell } = this;
    for (let seen = doorbell.callSequence(); !isDone(); seen = doorbell.callSequence()) {
      await doorbell.waitCall(seen, FLUSH_LOOK_MS);
    }
  }

  /** Whether its task has ended, as of now. */
  get isDead(): boolean {
    return this.task.task.exitState !== 0;
  }

  /** One that does not answer, and is not stopped or frozen, is ended, as all are by their stop. */
  async #leave(): Promise<void> {
    let isOver = this.inline !== undefined;
    const left = isOver ? undefined : this.control.detach().catch(() => {});
    const end = Promise.race([left, this.task.exited]).then(() => {
      isOver = true;
    });
    while (!isOver) {
      await Promise.race([end, after(STOP_GRACE_MS, undefined, { ref: false })]);
      if (!isOver && !isHalted(this.task.task)) await vhostTaskStop(this.task);
    }
    this.#exited({ code: 0, stopped: true });
  }
}

/** Throws EINVAL for a value that is none of an option's: a wrong one must not pass for another. */
export function checkWorkerOptions({
  ring = "wasm",
  run = "thread",
  pollMicroseconds = 0,
  forkFromOwner = true,
}: WorkerOptions): void {
  const wrong = (what: string, value: unknown) =>
    new VhostError("EINVAL", `${what}, not ${String(value)}`, { value });
  if (ring !== "wasm" && ring !== "ts") throw wrong('ring is "wasm" or "ts"', ring);
  if (run !== "thread" && run !== "inline") throw wrong('run is "thread" or "inline"', run);
  if (typeof forkFromOwner !== "boolean") {
    throw wrong("forkFromOwner is true or false", forkFromOwner);
  }
  const isTime = typeof pollMicroseconds === "number" && pollMicroseconds >= 0;
  if (isTime && pollMicroseconds <= POLL_MICROSECONDS_MAX) return;
  const range = `0 to ${POLL_MICROSECONDS_MAX}`;
  throw wrong(`pollMicroseconds is ${range}`, pollMicroseconds);
}

/** What Node ends a thread with whose module awaits for ever. */
const UNSETTLED = 13;

/** Why a worker was stopped: its device was closed, perhaps for its owner's end. */
function endOf({ pid, exitState, exitCode, signal }: Task): string {
  if (exitState === 0) return "the device is closed";
  const status = signal.groupExitCode ?? exitCode;
  const how = status & 0x7f ? `was killed by signal ${status & 0x7f}` : `exited: ${status >> 8}`;
  return `the device is closed: its owner, process ${pid}, ${how}`;
}

/** The error that everyone who waits for the worker gets. */
function deathOf({ stopped, error, code }: ThreadExit, owner: Task): VhostError {
  if (stopped) return new VhostError("ENODEV", endOf(owner), { owner: owner.pid });
  const unsettled = code === UNSETTLED ? ": a promise of its module never settles" : "";
  const why = error ? `: ${error.message}` : ` (exit code ${code}${unsettled})`;
  return new VhostError("ENODEV", `the device's worker died${why}`, { exitCode: code }, error);
}

interface ThreadParts {
  name: string;
  setup: WorkerSetup;
  client: ControlClient;
  notifier: NotifierSpec | undefined;
}

/** The client's other end goes with the thread, or is closed when that can't be made. */
function createThread(
  { name, setup, client, notifier }: ThreadParts,
  create: (thread: VhostTaskOptions) => VhostTask,
): VhostTask {
  const named = notifier && { module: notifier.module, options: notifier.options };
  try {
    return create({
      fn: { module: new URL("./worker-thread.js", import.meta.url).href, name: "vhostWorker" },
      arg: { ...setup, notifier: named, control: client.remote },
      transfer: [client.remote],
      name,
      ...(notifier && { wake: () => notifier.wake() }),
    });
  } catch (error) {
    client.fail(new VhostError("ENODEV", "the worker was not made", {}, error));
    throw error;
  }
}
