import { randomUUID } from "node:crypto";
import { BroadcastChannel } from "node:worker_threads";
import { makeEventfd, pointEventfd } from "../linux/eventfd.js";
import { closeFd } from "../linux/libc.js";
import { VhostError } from "../spec/errno.js";
import { checkNames } from "../spec/options.js";
import { VLAN_VID_MAX } from "../spec/virtio-net.js";
import { formatMac } from "./net-mac.js";
import { NET_PIPE_BYTES_MIN } from "./net-pipe.js";
import type { NetSwitchPortOptions } from "./net-switch-port.js";
import {
  COUNT_DISCARDED,
  COUNT_DROPPED,
  COUNT_FILTERED,
  COUNT_FLOODED,
  COUNT_FORWARDED,
  COUNT_RECEIVED,
  COUNT_RECEIVED_BYTES,
  COUNT_REFUSED,
  COUNT_SENT,
  COUNT_SENT_BYTES,
  NetSwitchState,
  PORT_ACCESS,
  PORT_DOWN,
  PORT_TRUNK,
} from "./net-switch-state.js";
import { type NetWakee, type NetWakees, WAKEES_WANTED } from "./net-switch-wakers.js";
import { SwitchTap, type TapOptions } from "./net-tap.js";

const PORTS_MIN = 2;
const PORTS_MAX = 32;
const PORTS_DEFAULT = 8;
const AGE_SECONDS_DEFAULT = 300;
const AGE_SECONDS_MAX = 1_000_000;
const QUEUE_BYTES_DEFAULT = 1 << 20;
const QUEUE_BYTES_MAX = 1 << 24;

/** A switch between network devices. */
export interface SwitchOptions {
  /** How many ports it has, 2 to 32. Default 8. */
  ports?: number;
  /**
   * Bytes of packets that may wait on the way from one port to another, a power of two from 256 KiB
   * to 16 MiB. Default 1 MiB, which holds 690 of the usual largest packets, or 15 of those that
   * are not cut in segments. It takes no memory before packets lie in it.
   */
  queueBytes?: number;
  /** Seconds after which an address that was not heard is forgotten. Default 300. */
  ageSeconds?: number;
}

/** What a port of a switch is. Without any of it, tags are not looked at. */
export interface SwitchPortOptions {
  /** Its frames are of this VLAN, 1 to 4094, and have no tag. */
  vlan?: number;
  /** Its frames have tags, and are of one of these VLANs. */
  trunk?: readonly number[];
}

/** What a port of a switch has done. Packets are those of its device. */
export interface SwitchPortCounts {
  /** Packets from the device, and their bytes. */
  received: number;
  receivedBytes: number;
  /** Packets that its guest got, and their bytes. */
  sent: number;
  sentBytes: number;
  /** Of those received: for nobody here, or not of a VLAN of the port's. */
  filtered: number;
  /** Of those received: sent to all ports. */
  flooded: number;
  /** Copies of those received that were put in other ports' queues. */
  forwarded: number;
  /** Copies of those received that were for a port whose queue was full. */
  dropped: number;
  /** Copies for this port that found its queue full. */
  missed: number;
  /**
   * Packets for its guest that fitted in no buffer, found the queue of their flow full, or were
   * there when it reset the device.
   */
  discarded: number;
  /** Packets for its guest that its filters do not take. */
  refused: number;
}

/** Whom the packets for a port wake. */
interface PlugPlace {
  /** A task, by its shared words. */
  worker: { words: SharedArrayBuffer };
  /** An eventfd that must be written to as well; `undefined`: none. */
  wakeFd: number | undefined;
}

/** An address that a switch has heard. */
export interface SwitchAddress {
  mac: string;
  /** 0: of the ports that look at no tags. */
  vlan: number;
  port: number;
  ageSeconds: number;
}

/**
 * A port of a switch: `net({ switch: port })` plugs a device in, `tap` an interface of the host's,
 * one at a time.
 */
export class SwitchPort {
  readonly #lan: Switch;
  /** Its number, from 0. */
  readonly index: number;

  /** Made by `Switch.port`. */
  constructor(lan: Switch, index: number) {
    this.#lan = lan;
    this.index = index;
  }

  /** The switch that it is of. */
  get lan(): Switch {
    return this.#lan;
  }

  /**
   * Plugs the TAP `name` in, an interface of the host's; it is made unless it is there, and then as
   * long as it is plugged in. Bringing it up, and giving it an address or a bridge, is the host's.
   * What it does not take is dropped, and is in the counts as `discarded`. Linux, with the package
   * koffi. Throws EBUSY when the port or the interface is taken; EINVAL, ENOSYS, ENOENT, EACCES,
   * EPERM, saying what to do.
   */
  tap(name: string, options: TapOptions = {}): SwitchTap {
    return new SwitchTap(name, options, (place) => this.#lan.connect(this.index, place));
  }

  /** What it has done so far. */
  counts(): SwitchPortCounts {
    return this.#lan.countsOf(this.index);
  }
}

/**
 * A learning switch between network devices, of one process or of many. Each packet is forwarded by
 * the worker of the device that it comes from; there is no thread of the switch's. Opening thread.
 */
export class Switch implements Disposable {
  readonly #state: NetSwitchState;
  /** Of the channel on which workers are told who may be woken; and of the claims. */
  readonly #name = `vhost-wasm-switch-${randomUUID()}`;
  readonly #ports: { port: SwitchPort; mode: number }[] = [];
  readonly #wakees = new Map<number, NetWakee>();
  /** Eventfds of ours, by port: each means what wakes the port's worker, or nobody. */
  readonly #wakeFds = new Map<number, number>();
  #nobodyFd: number | undefined;
  #channel: BroadcastChannel | undefined;
  #isClosed = false;

  /** Throws EINVAL for an option out of range. */
  constructor(options: SwitchOptions = {}) {
    checkNames("a switch", options, ["ports", "queueBytes", "ageSeconds"]);
    const { ports = PORTS_DEFAULT, queueBytes = QUEUE_BYTES_DEFAULT } = options;
    const { ageSeconds = AGE_SECONDS_DEFAULT } = options;
    checkRange("ports", ports, PORTS_MIN, PORTS_MAX);
    checkRange("queueBytes", queueBytes, NET_PIPE_BYTES_MIN, QUEUE_BYTES_MAX);
    checkRange("ageSeconds", ageSeconds, 1, AGE_SECONDS_MAX);
    if ((queueBytes & (queueBytes - 1)) !== 0) {
      throw new VhostError("EINVAL", "queueBytes is a power of two", { queueBytes });
    }
    this.#state = new NetSwitchState({ ports, queueBytes, ageSeconds });
  }

  /**
   * Makes a port, for good. Throws ENODEV after `close`, ENOBUFS when all are made, EINVAL for
   * VLANs that are none.
   */
  port(options: SwitchPortOptions = {}): SwitchPort {
    if (this.#isClosed) throw new VhostError("ENODEV", "the switch is closed");
    checkNames("a port", options, ["vlan", "trunk"]);
    const { vlan = 0, trunk } = options;
    if (options.vlan !== undefined) checkRange("vlan", vlan, 1, VLAN_VID_MAX);
    for (const id of trunk ?? []) checkRange("trunk", id, 1, VLAN_VID_MAX);
    if (trunk && (options.vlan !== undefined || trunk.length === 0)) {
      throw new VhostError("EINVAL", "a port has one vlan, or a trunk's list of them");
    }
    const { ports } = this.#state.settings;
    const index = this.#ports.length;
    if (index === ports) {
      throw new VhostError("ENOBUFS", `the switch has ${ports} ports: say how many by ports`);
    }
    this.#state.setVlans(index, vlan, trunk ?? []);
    const port = new SwitchPort(this, index);
    this.#ports.push({ port, mode: trunk ? PORT_TRUNK : PORT_ACCESS });
    return port;
  }

  /** What the switch's ports are told apart by, for claims. */
  get name(): string {
    return this.#name;
  }

  /**
   * Plugs a device in, for who opens it; `close` unplugs it. Throws ENODEV after `close`, EBUSY
   * when the port is taken.
   */
  connect(
    index: number,
    { worker: { words }, wakeFd }: PlugPlace,
  ): { options: NetSwitchPortOptions; close(): void } {
    if (this.#isClosed) throw new VhostError("ENODEV", "the switch is closed");
    if (this.#wakees.has(index)) {
      throw new VhostError("EBUSY", `port ${index} of the switch is taken`);
    }
    this.#wakees.set(index, { port: index, words, wakeFd: this.#shareFd(index, wakeFd) });
    this.#channel ??= this.#listen();
    this.#state.setMode(index, this.#ports[index]?.mode ?? PORT_DOWN);
    this.#tell();
    const { buffers } = this.#state;
    return {
      options: { buffers, port: index, channel: this.#name },
      close: () => this.#disconnect(index),
    };
  }

  /**
   * A descriptor of ours that means the same: other workers write to it, and one that was closed
   * might mean another file by then.
   */
  #shareFd(index: number, wakeFd: number | undefined): number | undefined {
    if (wakeFd === undefined) return undefined;
    const ours = this.#wakeFds.get(index) ?? makeEventfd();
    this.#wakeFds.set(index, ours);
    pointEventfd(ours, wakeFd);
    return ours;
  }

  #disconnect(index: number): void {
    this.#state.setMode(index, PORT_DOWN);
    this.#state.table.forget(index);
    this.#state.bell(index).ignore();
    this.#wakees.delete(index);
    const ours = this.#wakeFds.get(index);
    if (ours !== undefined) {
      this.#nobodyFd ??= makeEventfd();
      pointEventfd(ours, this.#nobodyFd);
    }
    this.#tell();
    if (this.#wakees.size > 0) return;
    this.#channel?.close();
    this.#channel = undefined;
  }

  #listen(): BroadcastChannel {
    const channel = new BroadcastChannel(this.#name);
    channel.unref();
    channel.onmessage = (event) => {
      if ((event as { data: unknown }).data === WAKEES_WANTED) this.#post();
    };
    return channel;
  }

  #tell(): void {
    this.#state.addNews();
    this.#post();
  }

  #post(): void {
    const wakees: NetWakees = { news: this.#state.news, wakees: [...this.#wakees.values()] };
    this.#channel?.postMessage(wakees);
  }

  /** What a port has done. */
  countsOf(index: number): SwitchPortCounts {
    const counted = (which: number) => this.#state.counted(index, which);
    const others = this.#ports.map(({ port }) => port.index);
    const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0);
    return {
      received: counted(COUNT_RECEIVED),
      receivedBytes: counted(COUNT_RECEIVED_BYTES),
      sent: counted(COUNT_SENT),
      sentBytes: counted(COUNT_SENT_BYTES),
      filtered: counted(COUNT_FILTERED),
      flooded: counted(COUNT_FLOODED),
      forwarded: counted(COUNT_FORWARDED),
      dropped: sum(others.map((other) => counted(COUNT_DROPPED + other))),
      missed: sum(others.map((other) => this.#state.counted(other, COUNT_DROPPED + index))),
      discarded: counted(COUNT_DISCARDED),
      refused: counted(COUNT_REFUSED),
    };
  }

  /** The addresses that it knows, in no order. */
  addresses(): SwitchAddress[] {
    const now = Math.floor(Date.now() / 1000);
    const oldest = now - this.#state.settings.ageSeconds;
    return this.#state.table.entries(oldest).map(({ mac, vlan, port, seen }) => ({
      mac: formatMac(mac),
      vlan,
      port,
      ageSeconds: now - seen,
    }));
  }

  /** Gives its descriptors back; no device can be plugged in any more. Throws EBUSY with one in. */
  close(): void {
    if (this.#wakees.size > 0) throw new VhostError("EBUSY", "a device or a TAP is plugged in");
    this.#isClosed = true;
    for (const fd of this.#wakeFds.values()) closeFd(fd);
    this.#wakeFds.clear();
    if (this.#nobodyFd !== undefined) closeFd(this.#nobodyFd);
    this.#nobodyFd = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function checkRange(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new VhostError("EINVAL", `${name} is a whole number from ${least} to ${most}`, { value });
}
