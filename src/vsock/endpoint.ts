import { VhostError } from "../spec/errno.js";
import {
  VIRTIO_VSOCK_OP_REQUEST,
  VIRTIO_VSOCK_OP_RST,
  VIRTIO_VSOCK_TYPE_STREAM,
  VMADDR_ANY,
} from "../spec/virtio-vsock.js";
import { VsockConnection } from "./connection.js";
import type { VsockHeader } from "./header.js";

/** Replies that wait to be sent: with so many, nothing is received. */
export const VSOCK_REPLIES_MAX = 64;
/** Ports below are not given to those who name none. Linux: LAST_RESERVED_PORT. */
const EPHEMERAL_PORT_MIN = 1024;

/** A packet to send. The payload is to be copied before anything else is asked of the endpoint. */
export interface VsockPacket {
  header: VsockHeader;
  payload: Uint8Array;
}

/** Who an endpoint is, and how much it takes on. */
export interface EndpointOptions {
  localCid: number;
  peerCid: number;
  /** Bytes that each connection has room for: what it receives and its stream does not take. */
  bufferBytes: number;
  /** Connections at a time; what is asked for beyond them is refused. */
  connectionsMax: number;
}

/** What an endpoint tells, and asks. */
export interface EndpointEvents {
  /** Whether a REQUEST for a port is to be taken up. */
  listens(port: number): boolean;
  /** A connection to a port that is listened at: to be accepted or reset, now or later. */
  requested(connection: VsockConnection): void;
  /** There is something to send. */
  ready(): void;
}

const NO_PAYLOAD = new Uint8Array(0);

/**
 * One of the two ends of a socket device: its connections, and the packets that belong to none. No
 * I/O and no clock. Whatever the other side sends, memory is bounded: by the connections, their
 * buffers, and VSOCK_REPLIES_MAX. virtio 1.3, 5.10.6 Device Operation.
 */
export class VsockEndpoint {
  readonly #options: EndpointOptions;
  readonly #events: EndpointEvents;
  readonly #connections = new Map<string, VsockConnection>();
  /** Those that have something to send, the one whose turn it is first. */
  readonly #ready = new Set<VsockConnection>();
  readonly #replies: VsockHeader[] = [];
  #lastPort = EPHEMERAL_PORT_MIN - 1;

  constructor(options: EndpointOptions, events: EndpointEvents) {
    this.#options = { ...options };
    this.#events = events;
  }

  /** Our CID; the guest's may change with a reset. */
  set localCid(cid: number) {
    this.#options.localCid = cid;
  }

  /** The other side's CID: packets from and for another are dropped. */
  set peerCid(cid: number) {
    this.#options.peerCid = cid;
  }

  /** Packets that belong to no connection and wait to be sent. */
  get replyCount(): number {
    return this.#replies.length;
  }

  /** Connections that there are, those being closed included. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Asks for a connection. Throws ENOBUFS when there are too many. */
  connect(port: number): VsockConnection {
    const { connectionsMax } = this.#options;
    if (this.#connections.size >= connectionsMax) {
      const message = `there are ${connectionsMax} connections, no more are allowed`;
      throw new VhostError("ENOBUFS", message, { connectionsMax });
    }
    return this.#add(this.#freePort(port), port);
  }

  /** Ports are given in turn: one that was just left is the last to be given again. */
  #freePort(peerPort: number): number {
    do {
      this.#lastPort++;
      if (this.#lastPort >= VMADDR_ANY) this.#lastPort = EPHEMERAL_PORT_MIN;
    } while (this.#connections.has(keyOf(this.#lastPort, peerPort)));
    return this.#lastPort;
  }

  #add(localPort: number, peerPort: number, request?: VsockHeader): VsockConnection {
    const key = keyOf(localPort, peerPort);
    const hooks = {
      ready: (one: VsockConnection) => this.#onReady(one),
      gone: (one: VsockConnection) => {
        this.#ready.delete(one);
        this.#connections.delete(key);
      },
    };
    const { bufferBytes } = this.#options;
    const connection = new VsockConnection(localPort, peerPort, bufferBytes, hooks, request);
    this.#connections.set(key, connection);
    return connection;
  }

  #onReady(connection: VsockConnection): void {
    this.#ready.add(connection);
    this.#events.ready();
  }

  /** Whether `receive` may be called: replies do not pile up. */
  get canReceive(): boolean {
    return this.#replies.length < VSOCK_REPLIES_MAX;
  }

  /**
   * A packet of the other side's, whose payload is as long as its header says and copied if it is
   * kept. One from or for another CID is dropped; one that belongs to no connection, or is none of
   * the specification's, is answered with RST.
   */
  receive(header: VsockHeader, payload: Uint8Array): void {
    const { localCid, peerCid, connectionsMax } = this.#options;
    if (header.srcCid !== peerCid || header.dstCid !== localCid) return;
    const isStream = header.type === VIRTIO_VSOCK_TYPE_STREAM;
    const connection = this.#connections.get(keyOf(header.dstPort, header.srcPort));
    const isRequest = header.op === VIRTIO_VSOCK_OP_REQUEST && header.fwdCnt === 0;
    const isFull = this.#connections.size >= connectionsMax;
    if (isStream && connection) {
      connection.receive(header, payload);
    } else if (isStream && isRequest && !isFull && this.#events.listens(header.dstPort)) {
      this.#events.requested(this.#add(header.dstPort, header.srcPort, header));
    } else {
      this.#replyReset(header);
    }
  }

  /** A RST is never answered: two ends would go on for ever. */
  #replyReset(header: VsockHeader): void {
    if (header.op === VIRTIO_VSOCK_OP_RST) return;
    this.#replies.push({
      ...this.#addresses(header.dstPort, header.srcPort),
      len: 0,
      type: header.type,
      op: VIRTIO_VSOCK_OP_RST,
      flags: 0,
      bufAlloc: 0,
      fwdCnt: 0,
    });
    this.#events.ready();
  }

  #addresses(srcPort: number, dstPort: number) {
    const { localCid, peerCid } = this.#options;
    return { srcCid: localCid, dstCid: peerCid, srcPort, dstPort };
  }

  /**
   * The next packet to send: replies first, then the connections in turn, a packet each.
   * `payloadBytesMax`: 1 or more.
   */
  next(payloadBytesMax: number): VsockPacket | undefined {
    const reply = this.#replies.shift();
    if (reply) return { header: reply, payload: NO_PAYLOAD };
    for (const connection of this.#ready) {
      this.#ready.delete(connection);
      const packet = connection.next(payloadBytesMax);
      if (connection.isReady) this.#ready.add(connection); // last in turn
      if (!packet) continue;
      const { payload, ...rest } = packet;
      const addresses = this.#addresses(connection.localPort, connection.peerPort);
      const type = VIRTIO_VSOCK_TYPE_STREAM;
      return { header: { ...addresses, len: payload.length, type, ...rest }, payload };
    }
    return undefined;
  }

  /** The other side, or the device between, is gone: all connections are over with `error`. */
  reset(error: VhostError): void {
    this.#replies.length = 0;
    for (const connection of [...this.#connections.values()]) connection.abandon(error);
  }
}

function keyOf(localPort: number, peerPort: number): string {
  return `${localPort}:${peerPort}`;
}
