import { VhostError } from "../spec/errno.js";
import {
  VIRTIO_VSOCK_OP_CREDIT_REQUEST,
  VIRTIO_VSOCK_OP_CREDIT_UPDATE,
  VIRTIO_VSOCK_OP_REQUEST,
  VIRTIO_VSOCK_OP_RESPONSE,
  VIRTIO_VSOCK_OP_RST,
  VIRTIO_VSOCK_OP_RW,
  VIRTIO_VSOCK_OP_SHUTDOWN,
  VIRTIO_VSOCK_SHUTDOWN_BOTH,
  VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE,
  VIRTIO_VSOCK_SHUTDOWN_F_SEND,
} from "../spec/virtio-vsock.js";
import { Credit } from "./credit.js";
import type { VsockHeader } from "./header.js";
import { ReceiveBuffer } from "./receive-buffer.js";

/** What happens to a connection. Called within `receive`, `next` and the like: take it up later. */
export interface ConnectionEvents {
  /** The other side has accepted. */
  established(): void;
  /** There are bytes to take, or their end. */
  readable(): void;
  /** What was given to `send` is sent; with an error, it is not. */
  sent(error?: VhostError): void;
  /** It is over; with an error, before its time. What came before can still be taken if not. */
  closed(error?: VhostError): void;
}

/** What a connection needs of its endpoint. */
export interface ConnectionHooks {
  /** It has something to send: `next` gives it. */
  ready(connection: VsockConnection): void;
  /** Its ports are free. */
  gone(connection: VsockConnection): void;
}

/** What one packet says, but for its addresses. */
export type ConnectionPacket = Pick<VsockHeader, "op" | "flags" | "bufAlloc" | "fwdCnt"> & {
  payload: Uint8Array;
};

/**
 * - requested: the other side asks for it, we have not answered.
 * - connecting: we have asked for it.
 * - closing: we are done with it, and wait for the other side's RST.
 * - resetting: our RST is to be sent.
 */
type State = "requested" | "connecting" | "established" | "closing" | "resetting" | "closed";

const NO_EVENTS: ConnectionEvents = { established() {}, readable() {}, sent() {}, closed() {} };
const NO_PAYLOAD = new Uint8Array(0);
const NO_OP = 0;

/**
 * One end of a stream connection: what it answers to each packet, and what it sends. No I/O and no
 * clock: packets go in by `receive`, and come out by `next` when the endpoint asks. virtio 1.3,
 * 5.10.6 Device Operation.
 */
export class VsockConnection {
  readonly localPort: number;
  readonly peerPort: number;
  readonly #hooks: ConnectionHooks;
  readonly #credit: Credit;
  readonly #received = new ReceiveBuffer();
  #events = NO_EVENTS;
  #state: State;
  /** Ops to send, as bits: REQUEST, RESPONSE, CREDIT_UPDATE. */
  #pending = 0;
  /** What is being sent. */
  #sending: Uint8Array | undefined;
  /** The other side was asked for credit since it last gave some. */
  #hasAsked = false;
  /** Flags of SHUTDOWN: what we are to say, what we have said, what the other side has. */
  #shutdown = 0;
  #toldShutdown = 0;
  #peerShutdown = 0;

  /** Made by an endpoint. `request`: the other side's REQUEST; without one, we are to ask. */
  constructor(
    localPort: number,
    peerPort: number,
    bufAlloc: number,
    hooks: ConnectionHooks,
    request?: VsockHeader,
  ) {
    this.localPort = localPort;
    this.peerPort = peerPort;
    this.#hooks = hooks;
    this.#credit = new Credit(bufAlloc);
    this.#state = request ? "requested" : "connecting";
    if (request) this.#credit.hear(request);
    else this.#want(VIRTIO_VSOCK_OP_REQUEST);
  }

  /** Who hears of it from now on. */
  set events(events: ConnectionEvents) {
    this.#events = events;
  }

  /** Whether its ports are free: nothing comes any more. */
  get isClosed(): boolean {
    return this.#state === "closed";
  }

  /** Bytes that came and were not taken. */
  get receivedBytes(): number {
    return this.#received.bytes;
  }

  /** Whether nothing comes after what has come. */
  get isEnded(): boolean {
    const isOpen = this.#state === "established" || this.#state === "connecting";
    return !isOpen || (this.#peerShutdown & VIRTIO_VSOCK_SHUTDOWN_F_SEND) !== 0;
  }

  #want(op: number): void {
    this.#pending |= 1 << op;
    this.#hooks.ready(this);
  }

  #wants(op: number): boolean {
    return (this.#pending & (1 << op)) !== 0;
  }

  /** Answers the other side's REQUEST with yes. Nothing in any other state. */
  accept(): void {
    if (this.#state !== "requested") return;
    this.#state = "established";
    this.#want(VIRTIO_VSOCK_OP_RESPONSE);
  }

  /**
   * Sends `bytes`, which stay the connection's until the event `sent`. One at a time, and only
   * while it is established.
   */
  send(bytes: Uint8Array): void {
    const isOver = this.#state !== "established" || this.#shutdown !== 0;
    if (isOver || this.#peerShutdown & VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE) {
      this.#events.sent(brokenPipe());
    } else if (bytes.length === 0) {
      this.#events.sent();
    } else {
      this.#sending = bytes;
      this.#hooks.ready(this);
    }
  }

  /** Takes the oldest of the bytes that came: memory of their own. */
  take(): Uint8Array<ArrayBuffer> | undefined {
    const bytes = this.#received.take();
    this.#credit.forward(bytes?.length ?? 0);
    this.#finishIfDone();
    if (this.isReady) this.#hooks.ready(this);
    return bytes;
  }

  /** No more bytes will be sent, after those that are. */
  endSending(): void {
    if (this.#state !== "established") return;
    this.#shutdown |= VIRTIO_VSOCK_SHUTDOWN_F_SEND;
    this.#hooks.ready(this);
  }

  /**
   * We are done with it: the other side is told, and answers with RST. What was not sent yet is
   * lost, which the other side gets to know by a RST of ours instead.
   */
  close(): void {
    if (this.#state === "established" && !this.#sending) this.#beginClosing();
    else if (this.#state !== "closing") this.reset();
  }

  #beginClosing(): void {
    this.#received.clear();
    this.#shutdown = VIRTIO_VSOCK_SHUTDOWN_BOTH;
    this.#state = "closing";
    this.#finishIfDone();
    this.#hooks.ready(this);
  }

  /** Ends it at once, with RST; `error` is what the event `closed` says. */
  reset(error?: VhostError): void {
    if (this.#state === "resetting" || this.#state === "closed") return;
    const isUnsent = this.#state === "connecting" && this.#wants(VIRTIO_VSOCK_OP_REQUEST);
    this.#over(isUnsent ? "closed" : "resetting", error);
  }

  /** The other side is gone, and hears nothing any more. */
  abandon(error?: VhostError): void {
    if (this.#state !== "closed") this.#over("closed", error);
  }

  #over(state: "resetting" | "closed", error?: VhostError): void {
    const wasHeard = this.#state === "resetting";
    const wasSending = this.#sending !== undefined;
    this.#state = state;
    this.#sending = undefined;
    if (error) this.#received.clear();
    if (state === "closed") this.#hooks.gone(this);
    else this.#hooks.ready(this);
    if (wasHeard) return;
    if (wasSending) this.#events.sent(error ?? brokenPipe());
    this.#events.closed(error);
  }

  /** The other side is done with it, and so are we with what it sent: RST says so. */
  #finishIfDone(): void {
    const isDone = this.#peerShutdown === VIRTIO_VSOCK_SHUTDOWN_BOTH && this.#received.bytes === 0;
    const isOpen = this.#state === "established" || this.#state === "closing";
    if (isDone && isOpen) this.#over("resetting");
  }

  /**
   * A packet of the other side's for these ports, with as much `payload` as its header says; that
   * is copied. What it may not say in this state ends the connection with RST.
   */
  receive(header: VsockHeader, payload: Uint8Array): void {
    if (this.#state === "resetting" || this.#state === "closed") return;
    if (header.op === VIRTIO_VSOCK_OP_RST) {
      this.#receiveReset();
    } else if (!this.#credit.hear(header)) {
      this.reset(new VhostError("EPROTO", "the other side claims to have what it was never sent"));
    } else if (this.#state === "connecting" && header.op === VIRTIO_VSOCK_OP_RESPONSE) {
      this.#state = "established";
      this.#events.established();
    } else if (this.#state === "established" || this.#state === "closing") {
      this.#receiveOpen(header, payload);
    } else {
      this.reset(outOfTurn(header));
    }
    if (this.isReady) this.#hooks.ready(this);
  }

  #receiveOpen(header: VsockHeader, payload: Uint8Array): void {
    switch (header.op) {
      case VIRTIO_VSOCK_OP_RW:
        if (payload.length > 0) this.#receiveBytes(payload);
        break;
      case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
        break;
      case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        this.#want(VIRTIO_VSOCK_OP_CREDIT_UPDATE);
        break;
      case VIRTIO_VSOCK_OP_SHUTDOWN:
        this.#receiveShutdown(header.flags & VIRTIO_VSOCK_SHUTDOWN_BOTH);
        break;
      default:
        this.reset(outOfTurn(header));
    }
  }

  #receiveBytes(payload: Uint8Array): void {
    if (this.#peerShutdown & VIRTIO_VSOCK_SHUTDOWN_F_SEND) {
      this.reset(new VhostError("EPROTO", "the other side sends after it said that it will not"));
    } else if (!this.#credit.receive(payload.length)) {
      this.reset(new VhostError("EPROTO", "the other side sends more than there is room for"));
    } else if (this.#state === "closing") {
      this.#credit.forward(payload.length); // on its way when we said that we are done
    } else {
      this.#received.put(payload);
      this.#events.readable();
    }
  }

  /** What was said once stays said. virtio 1.3, 5.10.6.6 Stream Sockets. */
  #receiveShutdown(flags: number): void {
    this.#peerShutdown |= flags;
    if (this.#peerShutdown & VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE && this.#sending) {
      this.#sending = undefined;
      this.#events.sent(brokenPipe());
    }
    if (flags & VIRTIO_VSOCK_SHUTDOWN_F_SEND) this.#events.readable();
    this.#finishIfDone();
  }

  #receiveReset(): void {
    if (this.#state === "connecting") {
      this.#over("closed", refused(this.peerPort));
      return;
    }
    const hasSaidAll = (this.#toldShutdown & VIRTIO_VSOCK_SHUTDOWN_F_SEND) !== 0;
    const hasHeardAll = (this.#peerShutdown & VIRTIO_VSOCK_SHUTDOWN_F_SEND) !== 0;
    const isPeerDone = this.#peerShutdown === VIRTIO_VSOCK_SHUTDOWN_BOTH;
    const isInOrder = this.#state === "closing" || isPeerDone || (hasSaidAll && hasHeardAll);
    this.#over("closed", isInOrder ? undefined : connectionReset());
  }

  /** The op of the packet that it would send now. */
  get #nextOp(): number {
    if (this.#state === "resetting") return VIRTIO_VSOCK_OP_RST;
    if (this.#wants(VIRTIO_VSOCK_OP_REQUEST)) return VIRTIO_VSOCK_OP_REQUEST;
    if (this.#wants(VIRTIO_VSOCK_OP_RESPONSE)) return VIRTIO_VSOCK_OP_RESPONSE;
    if (this.#state !== "established" && this.#state !== "closing") return NO_OP;
    if (this.#sending && this.#credit.sendable > 0) return VIRTIO_VSOCK_OP_RW;
    if (!this.#sending && this.#shutdown & ~this.#toldShutdown) return VIRTIO_VSOCK_OP_SHUTDOWN;
    if (this.#wants(VIRTIO_VSOCK_OP_CREDIT_UPDATE) || this.#credit.isUpdateDue) {
      return VIRTIO_VSOCK_OP_CREDIT_UPDATE;
    }
    return this.#sending && !this.#hasAsked ? VIRTIO_VSOCK_OP_CREDIT_REQUEST : NO_OP;
  }

  /** Whether it has something to send. */
  get isReady(): boolean {
    return this.#state !== "closed" && this.#nextOp !== NO_OP;
  }

  /** The next packet to send, with `payloadBytesMax` of payload at most; 1 or more. */
  next(payloadBytesMax: number): ConnectionPacket | undefined {
    const op = this.isReady ? this.#nextOp : NO_OP;
    if (op === NO_OP) return undefined;
    const payload = op === VIRTIO_VSOCK_OP_RW ? this.#cut(payloadBytesMax) : NO_PAYLOAD;
    if (op === VIRTIO_VSOCK_OP_SHUTDOWN) this.#toldShutdown = this.#shutdown;
    if (op === VIRTIO_VSOCK_OP_CREDIT_REQUEST) this.#hasAsked = true;
    this.#pending &= ~((1 << op) | (1 << VIRTIO_VSOCK_OP_CREDIT_UPDATE)); // each header is one
    const flags = op === VIRTIO_VSOCK_OP_SHUTDOWN ? this.#shutdown : 0;
    if (op === VIRTIO_VSOCK_OP_RST) {
      this.#state = "closed";
      this.#hooks.gone(this);
    }
    return { op, flags, ...this.#credit.tell(), payload };
  }

  #cut(payloadBytesMax: number): Uint8Array {
    const sending = this.#sending as Uint8Array;
    const bytes = Math.min(sending.length, this.#credit.sendable, payloadBytesMax);
    const payload = sending.subarray(0, bytes);
    this.#credit.send(bytes);
    this.#hasAsked = false;
    this.#sending = bytes < sending.length ? sending.subarray(bytes) : undefined;
    if (!this.#sending) this.#events.sent();
    return payload;
  }
}

const refused = (port: number) =>
  new VhostError("ECONNREFUSED", `nobody listens at port ${port} of the other side`, { port });
const brokenPipe = () => new VhostError("EPIPE", "the other side does not receive any more");
const connectionReset = () => new VhostError("ECONNRESET", "the other side reset the connection");

function outOfTurn({ op }: VsockHeader): VhostError {
  return new VhostError("EPROTO", `the other side sent op ${op} out of turn`, { op });
}
