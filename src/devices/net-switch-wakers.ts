import { BroadcastChannel, receiveMessageOnPort } from "node:worker_threads";
import { eventfdWaker } from "../kernel/eventfd-waker.js";
import type { Waker } from "../kernel/wait.js";
import type { NetBell } from "./net-bell.js";
import type { NetSwitchState } from "./net-switch-state.js";

/** How to wake the worker of a port. */
export interface NetWakee {
  port: number;
  /** The shared words of the worker's task. */
  words: SharedArrayBuffer;
  /** An eventfd that is the switch's for all of its life. */
  wakeFd: number | undefined;
}

/** What the opening thread tells all workers of a switch, whenever it changes. */
export interface NetWakees {
  news: number;
  wakees: NetWakee[];
}

/** What a worker says when it has come: it is told then. */
export const WAKEES_WANTED = "wanted";

/**
 * Those who may be woken when they get packets: the workers of a switch's ports, each of which may
 * come and go, and none of which waits for a thread in between. Worker's thread.
 */
export class NetWakers {
  readonly #state: NetSwitchState;
  readonly #channel: BroadcastChannel;
  readonly #bells: NetBell[];
  #wakers: (Waker | undefined)[] = [];
  #news = -1;
  /** Ports, a bit each, that are to be woken and are not known yet. */
  #owed = 0;

  constructor(state: NetSwitchState, channel: string) {
    this.#state = state;
    this.#bells = Array.from({ length: state.settings.ports }, (_, port) => state.bell(port));
    this.#channel = new BroadcastChannel(channel);
    this.#channel.unref();
    // In a thread that is not this device's alone, the event loop may be sooner than `poll`.
    this.#channel.onmessage = (event) => this.#hear((event as { data: NetWakees }).data);
    this.#channel.postMessage(WAKEES_WANTED);
  }

  /** The sleep of a port's worker. */
  bell(port: number): NetBell {
    return this.#bells[port] as NetBell;
  }

  /** Somebody was to be woken who is not known yet: the news must be waited for awake. */
  get isOwing(): boolean {
    return this.#owed !== 0;
  }

  /** Looks for news. */
  poll(): void {
    while (this.#state.news !== this.#news) {
      const received = receiveMessageOnPort(this.#channel as never);
      if (!received) return;
      this.#hear(received.message);
    }
  }

  #hear(message: NetWakees | typeof WAKEES_WANTED): void {
    if (message !== WAKEES_WANTED) this.#adopt(message);
  }

  #adopt({ news, wakees }: NetWakees): void {
    this.#news = news;
    this.#wakers = [];
    for (const { port, words, wakeFd } of wakees) {
      this.#wakers[port] = eventfdWaker(words, wakeFd);
    }
    const owed = this.#owed;
    this.#owed = 0;
    for (let port = 0; port < this.#bells.length; port++) {
      if ((owed & (1 << port)) !== 0) this.#wakers[port]?.wake();
    }
  }

  /** Wakes a port's worker if it may be asleep. */
  wake(port: number): void {
    if (!this.bell(port).ring()) return;
    const waker = this.#news === this.#state.news ? this.#wakers[port] : undefined;
    if (waker) waker.wake();
    else this.#owed |= 1 << port;
  }

  /** It is gone. */
  close(): void {
    this.#channel.close();
  }
}
