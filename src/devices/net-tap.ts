import { Worker } from "node:worker_threads";
import { TASK_WORDS_BYTES, WORD_FLAGS, WORD_STATE } from "../kernel/wait.js";
import { makeEventfd, signalEventfd } from "../linux/eventfd.js";
import { closeFd } from "../linux/libc.js";
import { checkInterfaceName, hasTapInterface, isInterfaceUp, openTap } from "../linux/tap.js";
import { VhostError } from "../spec/errno.js";
import { checkNames } from "../spec/options.js";
import { TASK_INTERRUPTIBLE } from "../spec/sched.js";
import { VIRTIO_NET_HDR_BYTES } from "../spec/virtio-net.js";
import type { NetSwitchPortOptions } from "./net-switch-port.js";
import type { TapState } from "./net-tap-pump.js";

/** How often an interface that is gone is looked for. */
const LOOK_MS = 1000;
/** How long the program's end waits for a thread's. */
const END_MS_MAX = 1000;

/** Something happened to the interface of a TAP. */
export interface TapEvent {
  /** Its name. */
  tap: string;
  /**
   * "down": it takes no packets, which are dropped; "up": it does again; "gone": it was deleted,
   * and is waited for.
   */
  state: TapState;
  /** Why, when it is not the interface: the thread has died. */
  error?: Error;
}

/** How a TAP is plugged in. */
export interface TapOptions {
  /** Is told, in the opening thread, when the interface is another. */
  onEvent?: (event: TapEvent) => void;
}

/** What the thread of a TAP is made with; structured-cloneable. */
export interface NetTapThreadOptions {
  fd: number;
  /** Of `openTap`. */
  hasUso: boolean;
  wakeFd: number;
  words: SharedArrayBuffer;
  port: NetSwitchPortOptions;
  /** Its name. */
  comm: string;
  /** How the interface is, as far as is known. */
  state: TapState;
}

/** Plugs a thread in, at a port of a switch; see `Switch.connect`. */
export type TapPlug = (place: { worker: { words: SharedArrayBuffer }; wakeFd: number }) => {
  options: NetSwitchPortOptions;
  close(): void;
};

/** What there is as long as the interface is. */
interface Running {
  thread: Worker;
  words: Int32Array<SharedArrayBuffer>;
  wakeFd: number;
  /** Resolves when the thread has ended, and all of it was given back. */
  ended: Promise<void>;
}

const running = new Set<Running>();

/**
 * A thread in a system call must be woken, or the program's end waits for it; and one that is ended
 * in native code may take the program's exit status with it, so its own end is waited for.
 */
function endAll(): void {
  for (const one of running) stop(one);
  for (const { words } of running) Atomics.wait(words, WORD_STATE, TASK_INTERRUPTIBLE, END_MS_MAX);
}

function stop({ words, wakeFd }: Running): void {
  Atomics.store(words, WORD_FLAGS, 1);
  signalEventfd(wakeFd);
}

/**
 * A TAP at a port of a switch: a network interface of the host's whose cable is there. A thread of
 * its own, the program's, carries its packets, so that the host's network stack, which works on a
 * packet as it is written, takes no worker's time. It does not keep the program alive. Opening
 * thread. Linux: Documentation/networking/tuntap.rst.
 */
export class SwitchTap implements AsyncDisposable {
  /** Of the interface. */
  readonly name: string;
  readonly #plug: TapPlug;
  readonly #onEvent: (event: TapEvent) => void;
  #running: Running | undefined;
  #looking: NodeJS.Timeout | undefined;
  #state: TapState = "up";
  #closing: Promise<void> | undefined;

  /** See `SwitchPort.tap`. */
  constructor(name: string, options: TapOptions, plug: TapPlug) {
    checkNames("a TAP", options, ["onEvent"]);
    const { onEvent = () => {} } = options;
    if (typeof onEvent !== "function") throw new VhostError("EINVAL", "onEvent is a function");
    checkInterfaceName(name);
    this.name = name;
    this.#plug = plug;
    this.#onEvent = onEvent;
    this.#start("up");
  }

  /** How the interface is, as far as packets have shown. */
  get state(): TapState {
    return this.#state;
  }

  /** Whether the interface is up now, packets or not. */
  get isUp(): boolean {
    return isInterfaceUp(this.name);
  }

  /** `state`: how the interface is. */
  #start(state: TapState): void {
    const fds: number[] = [];
    let wire: ReturnType<TapPlug> | undefined;
    const release = () => {
      wire?.close();
      for (const fd of fds) closeFd(fd);
    };
    try {
      const { fd, hasUso } = openTap(this.name, VIRTIO_NET_HDR_BYTES);
      fds.push(fd);
      const wakeFd = makeEventfd();
      fds.push(wakeFd);
      const words = new Int32Array(new SharedArrayBuffer(TASK_WORDS_BYTES));
      words[WORD_STATE] = TASK_INTERRUPTIBLE; // for all of its life: a bell says when it sleeps
      wire = this.#plug({ worker: { words: words.buffer }, wakeFd });
      const comm = `tap-${this.name}`;
      const { options: port } = wire;
      this.#run({ fd, hasUso, wakeFd, words: words.buffer, port, comm, state }, release);
    } catch (error) {
      release();
      throw error;
    }
  }

  #run(options: NetTapThreadOptions, release: () => void): void {
    const thread = new Worker(new URL("./net-tap-thread.js", import.meta.url), {
      name: options.comm,
      execArgv: [],
      workerData: options,
    });
    let error: Error | undefined;
    thread.on("message", (state: TapState) => {
      if (this.#running === one) this.#tell(state);
    });
    thread.on("error", (thrown) => {
      error = thrown as Error;
    });
    const ended = new Promise<void>((resolve) => {
      thread.on("exit", () => {
        running.delete(one);
        if (running.size === 0) process.off("exit", endAll);
        release();
        resolve();
        if (this.#running === one) this.#lose(error);
      });
    });
    thread.unref(); // last: a listener takes it back
    const { wakeFd } = options;
    const one: Running = { thread, words: new Int32Array(options.words), wakeFd, ended };
    this.#running = one;
    if (running.size === 0) process.on("exit", endAll);
    running.add(one);
  }

  #tell(state: TapState, error?: Error): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#onEvent({ tap: this.name, state, ...(error && { error }) });
  }

  /** It has ended by itself: the interface is looked for from now on. */
  #lose(error: Error | undefined): void {
    this.#running = undefined;
    this.#looking = setInterval(() => this.#look(), LOOK_MS).unref();
    this.#tell("gone", error);
  }

  /**
   * One that somebody has made anew is taken, and told as what it is: mostly it is down yet. None
   * is made in place of one that was deleted.
   */
  #look(): void {
    if (!hasTapInterface(this.name)) return;
    const state = isInterfaceUp(this.name) ? "up" : "down";
    try {
      this.#start(state);
    } catch {
      return; // not yet: somebody else has it, say
    }
    clearInterval(this.#looking);
    this.#tell(state);
  }

  /**
   * Unplugs it: an interface that `ip tuntap add` did not make is gone then. Resolves when all of
   * it was given back. Idempotent.
   */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    clearInterval(this.#looking);
    const one = this.#running;
    this.#running = undefined;
    if (!one) return;
    stop(one);
    one.thread.ref();
    await one.ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
