import { NetBell } from "./net-bell.js";
import { NetPipe, netPipeBytes } from "./net-pipe.js";
import type { NetStage } from "./net-stage.js";
import { NET_TABLE_BYTES, NetTable } from "./net-switch-table.js";

/** What a switch is made with, for all of its life. */
export interface NetSwitchSettings {
  /** How many ports. */
  ports: number;
  /** Bytes of packets that may wait on the way from one port to another; a power of two. */
  queueBytes: number;
  /** Seconds after which an address that was not heard is forgotten. */
  ageSeconds: number;
}

/** What all threads of a switch share; structured-cloneable. */
export interface NetSwitchBuffers {
  settings: NetSwitchSettings;
  words: SharedArrayBuffer;
  vlans: SharedArrayBuffer;
  counts: SharedArrayBuffer;
  table: SharedArrayBuffer;
  pipes: SharedArrayBuffer;
}

// Indices of i32 words; those of a port follow one another.
/** Changes with the list of those who may be woken. */
const NEWS = 0;
const PORTS = 16;
const PORT_WORDS = 16;
const MODE = 0;
const VLAN = 1;
const BELL = 2;
const TAKES = 3;

/** The port's device is not there. */
export const PORT_DOWN = 0;
/** A port of one VLAN, whose frames have no tag; of VLAN 0: tags are not looked at. */
export const PORT_ACCESS = 1;
/** A port of several VLANs, whose frames have tags. */
export const PORT_TRUNK = 2;

/** Words of the bits that say which VLANs a trunk has. */
const VLAN_WORDS = 128;

// Indices of a port's counts, doubles; its drops by receiver come after them.
/** Packets from the device. The device's worker writes this and the next. */
export const COUNT_RECEIVED = 0;
/** Their bytes, without virtio's header. */
export const COUNT_RECEIVED_BYTES = 1;
/** Packets that its guest got. */
export const COUNT_SENT = 2;
/** Their bytes. */
export const COUNT_SENT_BYTES = 3;
/** Packets from the device that go nowhere: a tag that the port has not, no sender, its own. */
export const COUNT_FILTERED = 4;
/** Packets for its guest that fitted in no buffer, or were there when it reset the device. */
export const COUNT_DISCARDED = 5;
/** Packets from the device that went to all ports. */
export const COUNT_FLOODED = 6;
/** Copies of its packets that were put in another port's queue. */
export const COUNT_FORWARDED = 7;
/** Packets for its guest that the guest's filters do not take. */
export const COUNT_REFUSED = 8;
/** From here on, by receiver: copies of its packets that found its queue full. */
export const COUNT_DROPPED = 9;

/**
 * What a switch keeps in memory that the workers of its ports share, and no guest can reach. Each
 * pair of ports has a queue of its own, one way: one writes, one reads. So a port that never reads,
 * or whose worker is stopped or killed at any place, fills its own queues and no other.
 */
export class NetSwitchState {
  readonly settings: NetSwitchSettings;
  /** For other threads. */
  readonly buffers: NetSwitchBuffers;
  readonly table: NetTable;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #vlans: Uint32Array<SharedArrayBuffer>;
  readonly #counts: Float64Array<SharedArrayBuffer>;

  /** A new one, or another thread's. */
  constructor(made: NetSwitchSettings | NetSwitchBuffers) {
    this.buffers = "settings" in made ? made : newBuffers(made);
    const { settings, words, vlans, counts, table } = this.buffers;
    this.settings = settings;
    this.#words = new Int32Array(words);
    this.#vlans = new Uint32Array(vlans);
    this.#counts = new Float64Array(counts);
    this.table = new NetTable(table);
  }

  /** A number that changes with the list of those who may be woken. */
  get news(): number {
    return Atomics.load(this.#words, NEWS);
  }

  /** Opening thread: the list is another. */
  addNews(): void {
    Atomics.add(this.#words, NEWS, 1);
  }

  /** PORT_… */
  mode(port: number): number {
    return Atomics.load(this.#words, PORTS + port * PORT_WORDS + MODE);
  }

  /** The VLAN of a port of one; 0: tags are not looked at. */
  vlan(port: number): number {
    return this.#words[PORTS + port * PORT_WORDS + VLAN] as number;
  }

  /** Opening thread: the port's device comes (what the port is), or goes (PORT_DOWN). */
  setMode(port: number, mode: number): void {
    Atomics.store(this.#words, PORTS + port * PORT_WORDS + MODE, mode);
  }

  /** What the port's guest takes beside plain packets, TAKES_… bits. */
  takes(port: number): number {
    return Atomics.load(this.#words, PORTS + port * PORT_WORDS + TAKES);
  }

  /** The port's worker: says so. */
  setTakes(port: number, takes: number): void {
    Atomics.store(this.#words, PORTS + port * PORT_WORDS + TAKES, takes);
  }

  /** Opening thread: what the port is, before it is used. */
  setVlans(port: number, vlan: number, trunk: readonly number[]): void {
    this.#words[PORTS + port * PORT_WORDS + VLAN] = vlan;
    for (const id of trunk) {
      const at = port * VLAN_WORDS + (id >>> 5);
      this.#vlans[at] = (this.#vlans[at] as number) | (1 << (id & 31));
    }
  }

  /** Whether a trunk has the VLAN. */
  hasVlan(port: number, vlan: number): boolean {
    return (((this.#vlans[port * VLAN_WORDS + (vlan >>> 5)] as number) >>> (vlan & 31)) & 1) === 1;
  }

  /** Whether frames of the VLAN go to the port, which may be down. */
  hasFramesOf(port: number, vlan: number): boolean {
    const mode = this.mode(port);
    if (mode === PORT_ACCESS) return this.vlan(port) === vlan;
    return mode === PORT_TRUNK && this.hasVlan(port, vlan);
  }

  /** The sleep of a port's worker. */
  bell(port: number): NetBell {
    return new NetBell(this.#words, PORTS + port * PORT_WORDS + BELL);
  }

  /** The queue from one port to another; `stage`: of the side that it is for. */
  pipe(from: number, to: number, stage?: NetStage): NetPipe {
    const { ports, queueBytes } = this.settings;
    const start = (from * ports + to) * netPipeBytes(queueBytes);
    return new NetPipe(this.buffers.pipes, queueBytes, start, stage);
  }

  /** Adds to a count of a port's. */
  count(port: number, which: number, more = 1): void {
    const at = port * this.#countWords + which;
    this.#counts[at] = (this.#counts[at] as number) + more;
  }

  /** A count of a port's. */
  counted(port: number, which: number): number {
    return this.#counts[port * this.#countWords + which] as number;
  }

  get #countWords(): number {
    return COUNT_DROPPED + this.settings.ports;
  }
}

/** The pipes take no memory before packets lie in them: the system gives it page by page. */
function newBuffers(settings: NetSwitchSettings): NetSwitchBuffers {
  const { ports, queueBytes } = settings;
  return {
    settings,
    words: new SharedArrayBuffer(4 * (PORTS + ports * PORT_WORDS)),
    vlans: new SharedArrayBuffer(4 * ports * VLAN_WORDS),
    counts: new SharedArrayBuffer(8 * ports * (COUNT_DROPPED + ports)),
    table: new SharedArrayBuffer(NET_TABLE_BYTES),
    pipes: new SharedArrayBuffer(ports * ports * netPipeBytes(queueBytes)),
  };
}
