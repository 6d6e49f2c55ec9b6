import {
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_HDR_CSUM_OFFSET,
  VIRTIO_NET_HDR_CSUM_START,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_FLAGS,
  VIRTIO_NET_HDR_GSO_SIZE,
  VIRTIO_NET_HDR_GSO_TYPE,
  VIRTIO_NET_HDR_HDR_LEN,
} from "../spec/virtio-net.js";
import type { ChainSide } from "../vhost/chain.js";
import type { NetLarge } from "./net-large.js";
import { PLAIN_HEADER } from "./net-link.js";
import type { NetOffload } from "./net-offload.js";
import { NET_PACKET_BYTES_MAX, type NetPipe } from "./net-pipe.js";
import type { NetFate, NetPort } from "./net-port.js";
import type { NetBurst, NetPackets, NetStage, NetStages } from "./net-stage.js";
import { putU16 } from "./net-sum.js";
import {
  ALL_PORTS,
  ethBytesOf,
  NET_HEAD_BYTES,
  NetRoute,
  NO_WAY,
  wayPort,
  wayVlan,
} from "./net-switch-route.js";
import { appendRun, forEachRun, type NetRun } from "./net-switch-run.js";
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
  type NetSwitchBuffers,
  NetSwitchState,
  PORT_DOWN,
} from "./net-switch-state.js";
import { NetWakers } from "./net-switch-wakers.js";
import { type NetTag, putHead } from "./net-tag.js";
import { TAKES_PARTIAL, takesGso } from "./net-takes.js";

/** What a port in a worker needs; structured-cloneable. */
export interface NetSwitchPortOptions {
  buffers: NetSwitchBuffers;
  port: number;
  /** Name of the channel by which those who may be woken are told. */
  channel: string;
}

/**
 * A port of a switch, in the worker of its device: it puts each packet of its guest's in the queue
 * of whom it is for. Nobody is waited for; what finds a full queue is dropped and counted.
 */
export class NetSwitchPort implements NetPort {
  readonly cutsLarge = true;
  readonly room = Number.POSITIVE_INFINITY;
  readonly #state: NetSwitchState;
  readonly #port: number;
  readonly #wakers: NetWakers;
  /** By port; none to and from itself. */
  readonly #out: (NetPipe | undefined)[];
  readonly #in: NetPipe[];
  readonly #stages: NetStages | undefined;
  readonly #route: NetRoute;
  /** By port: it alone. */
  readonly #alone: readonly (readonly [number])[];
  /** What the frame being sent by itself begins with, and its way. */
  readonly #head = new Uint8Array(NET_HEAD_BYTES);
  readonly #view = new DataView(this.#head.buffer);
  #way = NO_WAY;
  /** Ports, a bit each, that got something in this burst. */
  #got = 0;
  #seen = 0;
  /** Which of `#in` is shown, and which comes first at the next look. */
  #shown = 0;

  /** `keeps`: what waits for the port already is for whom it is made now. */
  constructor({ buffers, port, channel }: NetSwitchPortOptions, keeps = false, stages?: NetStages) {
    this.#state = new NetSwitchState(buffers);
    this.#port = port;
    this.#wakers = new NetWakers(this.#state, channel);
    const others = Array.from({ length: buffers.settings.ports }, (_, other) => other);
    const pipe = (from: number, to: number, stage?: NetStage) =>
      from === to ? undefined : this.#state.pipe(from, to, stage);
    this.#out = others.map((to) => pipe(port, to, stages?.from));
    this.#alone = others.map((to) => [to]);
    this.#in = others.flatMap((from) => pipe(from, port, stages?.to) ?? []);
    this.#stages = stages;
    this.#route = new NetRoute(this.#state, port);
    if (!keeps) this.reset(); // what was for the port's device of before
    this.poll();
  }

  setTakes(takes: number): void {
    this.#state.setTakes(this.#port, takes);
  }

  send(packet: ChainSide, length: number, offload: NetOffload): void {
    const frameBytes = length - VIRTIO_NET_HDR_BYTES;
    const there = Math.min(NET_HEAD_BYTES, frameBytes);
    if (offload.gso !== 0) copyHead(offload.large.head, this.#head);
    else packet.read(VIRTIO_NET_HDR_BYTES, this.#head, 0, there); // once
    this.#count(COUNT_RECEIVED);
    this.#count(COUNT_RECEIVED_BYTES, frameBytes);
    this.#way = this.#route.find(this.#view, 0, frameBytes, offload.start);
    if (this.#way === NO_WAY) this.#count(COUNT_FILTERED);
    else for (const to of this.#portsOf(this.#way, 1)) this.#forward(packet, length, offload, to);
  }

  /** The ports that `packets` packets go to which go this way. */
  #portsOf(way: number, packets: number): readonly number[] {
    const port = wayPort(way);
    if (port !== ALL_PORTS) return this.#alone[port] as readonly number[];
    this.#count(COUNT_FLOODED, packets);
    const hasFrames = ([to]: readonly [number]) =>
      to !== this.#port && this.#state.hasFramesOf(to, wayVlan(way));
    return this.#alone.filter(hasFrames).flat();
  }

  /** Plain packets, through a stage: those that go one way and follow one another, together. */
  take(burst: NetBurst, each?: NetPackets): number {
    const stage = this.#stages?.taken;
    const { count } = burst;
    while (stage && burst.count > 0) {
      const packets = stage.move(burst, 0, stage.bytes.length, true);
      if (packets === 0) break;
      if (each) stage.forEach(0, packets, each);
      forEachRun(stage, packets, this.#route, (run) => this.#sendRun(run));
      burst.first += packets;
      burst.count -= packets;
    }
    return count - burst.count;
  }

  #sendRun(run: NetRun): void {
    const { packets, bytes, way } = run;
    this.#count(COUNT_RECEIVED, packets);
    this.#count(COUNT_RECEIVED_BYTES, bytes);
    if (way === NO_WAY) this.#count(COUNT_FILTERED, packets);
    else for (const to of this.#portsOf(way, packets)) this.#forwardRun(run, to);
  }

  #forwardRun(run: NetRun, to: number): void {
    const tag = this.#route.tagFor(run.way, to);
    const done = appendRun(run, this.#out[to] as NetPipe, tag);
    this.#count(COUNT_FORWARDED, done);
    this.#count(COUNT_DROPPED + to, run.packets - done);
    if (done > 0) this.#got |= 1 << to;
  }

  /** Something came that is no packet: it is counted. */
  refuse(): void {
    this.#count(COUNT_RECEIVED);
    this.#count(COUNT_FILTERED);
  }

  #count(which: number, more = 1): void {
    this.#state.count(this.#port, which, more);
  }

  /** Copies the packet, with or without a tag as the receiver has it, whole or in segments. */
  #forward(packet: ChainSide, length: number, offload: NetOffload, to: number): void {
    const tag = this.#route.tagFor(this.#way, to);
    const takes = this.#state.takes(to);
    const isPartial = (takes & TAKES_PARTIAL) !== 0;
    const { gso, large } = offload;
    const isWhole = gso === 0 || (large.mayBeWhole && takesGso(takes, gso, large.isIpv6));
    if (!isWhole) {
      this.#cut(packet, offload, to, tag, isPartial);
      return;
    }
    const moved = tag.added - tag.cut;
    const bytes = length + moved;
    const pipe = this.#out[to] as NetPipe;
    const at = bytes <= NET_PACKET_BYTES_MAX ? pipe.begin(bytes) : -1;
    if (at < 0) {
      this.#count(COUNT_DROPPED + to);
      return;
    }
    pipe.bytes.set(PLAIN_HEADER, at);
    const whole = gso !== 0 ? large : undefined;
    this.#copy(packet, length, pipe, at + VIRTIO_NET_HDR_BYTES, tag, whole);
    if (offload.start >= 0) {
      if (isPartial) leaveChecksum(pipe.bytes, at, offload, moved);
      else {
        const where = at + VIRTIO_NET_HDR_BYTES + offload.at + moved;
        putU16(pipe.bytes, where, offload.checksum(packet, length));
      }
    }
    if (gso !== 0) leaveLarge(pipe.bytes, at, offload, moved);
    this.#end(pipe, to);
  }

  /** What was looked at is not read again: it would be another by now. The rest follows it. */
  #copy(
    packet: ChainSide,
    length: number,
    { bytes }: NetPipe,
    at: number,
    tag: NetTag,
    large: NetLarge | undefined,
  ): void {
    const headBytes = large ? large.headBytes : ethBytesOf(this.#way);
    const to = putHead(large ? large.head : this.#head, headBytes, tag, bytes, at);
    const from = VIRTIO_NET_HDR_BYTES + headBytes;
    packet.read(from, bytes, to, length - from);
  }

  #cut(packet: ChainSide, offload: NetOffload, to: number, tag: NetTag, isPartial: boolean): void {
    const { large, segments } = offload;
    const pipe = this.#out[to] as NetPipe;
    for (let index = 0; index < large.count; index++) {
      const at = pipe.begin(VIRTIO_NET_HDR_BYTES + segments.bytesOf(large, index, tag));
      if (at < 0) {
        this.#count(COUNT_DROPPED + to, large.count - index);
        return;
      }
      const { bytes } = pipe;
      bytes.set(PLAIN_HEADER, at);
      const target = { bytes, at: at + VIRTIO_NET_HDR_BYTES, isPartial };
      segments.write(packet, large, index, tag, target);
      if (isPartial) leaveChecksum(bytes, at, offload, tag.added - tag.cut);
      this.#end(pipe, to);
    }
  }

  /** The packet is in the receiver's queue. */
  #end(pipe: NetPipe, to: number): void {
    pipe.end();
    this.#count(COUNT_FORWARDED);
    this.#got |= 1 << to;
  }

  count(max: number): number {
    let packets = 0;
    for (const pipe of this.#in) {
      packets += pipe.count(max - packets);
      if (packets === max) break;
    }
    return packets;
  }

  /** The senders' queues take turns, a packet each. */
  peek(): NetPipe | undefined {
    const { length } = this.#in;
    for (let i = 0; i < length; i++) {
      const at = (this.#shown + i) % length;
      const pipe = this.#in[at] as NetPipe;
      if (!pipe.peek()) continue;
      this.#shown = at;
      return pipe;
    }
    return undefined;
  }

  drop(isDelivered?: boolean): void {
    const pipe = this.#in[this.#shown] as NetPipe;
    const frameBytes = pipe.length - VIRTIO_NET_HDR_BYTES;
    if (isDelivered !== undefined) this.ended(isDelivered ? "delivered" : "discarded", frameBytes);
    pipe.drop();
    this.#shown = (this.#shown + 1) % this.#in.length;
  }

  /** The senders' queues take turns, a burst each: what one has for it. */
  put(burst: NetBurst): number {
    const pipe = this.peek();
    const stage = this.#stages?.to;
    if (!pipe || !stage) return 0;
    if (stage.user !== pipe) stage.user?.leave();
    const packets = pipe.put(burst);
    this.#count(COUNT_SENT, packets);
    this.#count(COUNT_SENT_BYTES, pipe.moved - packets * VIRTIO_NET_HDR_BYTES);
    if (packets > 0 && this.#in.some((other) => other !== pipe && !other.isEmpty)) {
      pipe.leave();
      this.#shown = (this.#shown + 1) % this.#in.length;
    }
    return packets;
  }

  ended(fate: NetFate, frameBytes: number): void {
    if (fate === "delivered") {
      this.#count(COUNT_SENT);
      this.#count(COUNT_SENT_BYTES, frameBytes);
    } else this.#count(fate === "refused" ? COUNT_REFUSED : COUNT_DISCARDED);
  }

  flush(): void {
    this.#stages?.flush();
    if (this.#got === 0) return;
    for (let to = 0; to < this.#out.length; to++) {
      if ((this.#got & (1 << to)) !== 0) this.#wakers.wake(to);
    }
    this.#got = 0;
  }

  poll(): void {
    this.#wakers.poll();
    this.#wakers.bell(this.#port).ignore();
    this.#route.tick();
    this.#seen = this.#written;
  }

  /** A number that each packet for the guest changes. */
  get #written(): number {
    let sum = 0;
    for (const pipe of this.#in) sum = (sum + pipe.written) | 0;
    return sum;
  }

  expect(): boolean {
    this.#wakers.bell(this.#port).expect();
    return this.#written !== this.#seen || this.#wakers.isOwing;
  }

  /** What is there by now: who goes on sending does not keep it. */
  reset(): void {
    const discarded = (length: number) => this.ended("discarded", length - VIRTIO_NET_HDR_BYTES);
    for (const pipe of this.#in) pipe.dropAll(discarded);
    this.#stages?.to.user?.leave(); // it may hold what came meanwhile
  }

  close(): void {
    this.#state.setMode(this.#port, PORT_DOWN);
    this.#wakers.close();
  }
}

/** What a large packet's headers begin with. */
function copyHead(from: Uint8Array, to: Uint8Array): void {
  for (let i = 0; i < NET_HEAD_BYTES; i++) to[i] = from[i] as number;
}

/** The receiver makes the checksum, or needs none. `moved`: by how much a tag has moved it. */
function leaveChecksum(bytes: Uint8Array, at: number, offload: NetOffload, moved: number): void {
  bytes[at + VIRTIO_NET_HDR_FLAGS] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  putU16(bytes, at + VIRTIO_NET_HDR_CSUM_START, offload.start + moved);
  putU16(bytes, at + VIRTIO_NET_HDR_CSUM_OFFSET, offload.at - offload.start);
}

/** The receiver takes it whole. */
function leaveLarge(
  bytes: Uint8Array,
  at: number,
  { gso, large }: NetOffload,
  moved: number,
): void {
  bytes[at + VIRTIO_NET_HDR_GSO_TYPE] = gso;
  putU16(bytes, at + VIRTIO_NET_HDR_HDR_LEN, large.headBytes + moved);
  putU16(bytes, at + VIRTIO_NET_HDR_GSO_SIZE, large.sizeBytes);
}
