import type { VsockHeader } from "./header.js";

/** The most bytes under way, whatever the other side says that it has room for. */
const IN_FLIGHT_BYTES_MAX = 2 ** 30;
/** An update is due when so much of the room, as a part of it, was made free and not told. */
const UPDATE_PART = 1 / 4;

/**
 * Who may send how much on one connection. Counts are whole numbers here, modulo 2^32 in headers.
 * virtio 1.3, 5.10.6.3 Buffer Space Management.
 */
export class Credit {
  /** Bytes that we have room for, in all. */
  readonly bufAlloc: number;
  #received = 0;
  #forwarded = 0;
  /** As of the last header that the other side was sent. */
  #told = 0;
  #sent = 0;
  #peerForwarded = 0;
  #peerBufAlloc = 0;

  constructor(bufAlloc: number) {
    this.bufAlloc = bufAlloc;
  }

  /**
   * Takes what a header says. `false`: the other side claims to have taken more than it was sent.
   * Older counts than the last are passed over: two of its threads may have sent out of turn.
   */
  hear({ bufAlloc, fwdCnt }: VsockHeader): boolean {
    const more = (fwdCnt - this.#peerForwarded) >>> 0;
    const isOlder = more >= 2 ** 31;
    if (!isOlder && this.#peerForwarded + more > this.#sent) return false;
    if (!isOlder) this.#peerForwarded += more;
    this.#peerBufAlloc = bufAlloc;
    return true;
  }

  /** Bytes that may be sent now. */
  get sendable(): number {
    const room = Math.min(this.#peerBufAlloc, IN_FLIGHT_BYTES_MAX);
    return Math.max(0, room - (this.#sent - this.#peerForwarded));
  }

  /** `bytes` are sent: at most `sendable`. */
  send(bytes: number): void {
    this.#sent += bytes;
  }

  /** `bytes` have come. `false`: more than the other side was told that there is room for. */
  receive(bytes: number): boolean {
    this.#received += bytes;
    return this.#received - this.#told <= this.bufAlloc;
  }

  /** `bytes` of what came are gone, and their room is free again. */
  forward(bytes: number): void {
    this.#forwarded += bytes;
  }

  /** Whether the other side should be told of room that it does not know of. */
  get isUpdateDue(): boolean {
    return this.#forwarded - this.#told >= this.bufAlloc * UPDATE_PART;
  }

  /** What a header tells the other side, which from now on may go by it. */
  tell(): Pick<VsockHeader, "bufAlloc" | "fwdCnt"> {
    this.#told = this.#forwarded;
    return { bufAlloc: this.bufAlloc, fwdCnt: this.#forwarded >>> 0 };
  }
}
