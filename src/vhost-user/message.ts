import { discardFds } from "../linux/discard.js";
import { Readiness } from "../linux/readiness.js";
import { FdSocket } from "../linux/unix-socket.js";
import { VhostError } from "../spec/errno.js";
import {
  VHOST_USER_FDS_MAX,
  VHOST_USER_HEADER_BYTES,
  VHOST_USER_NEED_REPLY,
  VHOST_USER_PAYLOAD_BYTES_MAX,
  VHOST_USER_REPLY,
  VHOST_USER_VERSION,
  VHOST_USER_VERSION_MASK,
} from "../spec/vhost-user.js";

/** A message of the front-end. */
export interface Message {
  request: number;
  /** It asks for a reply, as REPLY_ACK allows. */
  needsReply: boolean;
  /** Valid until the next `receive`. */
  payload: DataView;
  /** Descriptors that came with it: who takes one removes it, the receiver closes the rest. */
  fds: number[];
}

/** Closes what is left in `fds`, whatever it is. */
export function closeAll(fds: number[]): void {
  void discardFds(fds.splice(0));
}

/** The back-end's end of a vhost-user connection. Main thread. */
export class Channel {
  readonly #socket: FdSocket;
  readonly #readiness: Readiness;
  readonly #header = new Uint8Array(VHOST_USER_HEADER_BYTES);
  readonly #payload = new Uint8Array(VHOST_USER_PAYLOAD_BYTES_MAX);
  #fds: number[] = [];
  #isClosed = false;

  /** `fd`: the connection, ours from now on, also when this throws. */
  constructor(fd: number) {
    this.#socket = new FdSocket(fd);
    try {
      this.#readiness = new Readiness(fd);
    } catch (error) {
      this.#socket.close();
      throw error;
    }
  }

  /**
   * The next message, checked as far as all are alike; `undefined` when the front-end has gone, or
   * the channel was closed. Rejects with EPROTO for what is no message, ECONNRESET for a part of
   * one.
   */
  async receive(): Promise<Message | undefined> {
    if (!(await this.#fill(this.#header, true))) return undefined;
    const header = new DataView(this.#header.buffer);
    const request = header.getUint32(0, true);
    const flags = header.getUint32(4, true);
    const size = header.getUint32(8, true);
    if ((flags & VHOST_USER_VERSION_MASK) !== VHOST_USER_VERSION || flags & VHOST_USER_REPLY) {
      throw new VhostError("EPROTO", "a header whose flags are none of a request", { flags });
    }
    if (size > VHOST_USER_PAYLOAD_BYTES_MAX) {
      throw new VhostError("EPROTO", `a payload of ${size} bytes`, { request, size });
    }
    if (!(await this.#fill(this.#payload.subarray(0, size), false))) return undefined;
    const needsReply = (flags & VHOST_USER_NEED_REPLY) !== 0;
    const payload = new DataView(this.#payload.buffer, 0, size);
    const fds = this.#fds;
    this.#fds = [];
    return { request, needsReply, payload, fds };
  }

  async #fill(target: Uint8Array, mayEnd: boolean): Promise<boolean> {
    for (let done = 0; done < target.length; ) {
      if (this.#isClosed) return false;
      const got = this.#socket.receive(target.subarray(done));
      if (!got) {
        await this.#readiness.wait();
        continue;
      }
      this.#fds.push(...got.fds);
      if (this.#fds.length > VHOST_USER_FDS_MAX) {
        throw new VhostError("EPROTO", `more than ${VHOST_USER_FDS_MAX} descriptors`);
      }
      done += got.bytes;
      if (got.bytes > 0) continue;
      if (mayEnd && done === 0) return false;
      throw new VhostError("ECONNRESET", "the front-end went away in the middle of a message");
    }
    return true;
  }

  /** Answers `request`, unless closed, with `fds`, which stay the caller's. Throws when the front-end is gone or does not read. */
  reply(request: number, payload: Uint8Array, fds: readonly number[] = []): void {
    if (this.#isClosed) return;
    const bytes = new Uint8Array(VHOST_USER_HEADER_BYTES + payload.length);
    const header = new DataView(bytes.buffer);
    header.setUint32(0, request, true);
    header.setUint32(4, VHOST_USER_VERSION | VHOST_USER_REPLY, true);
    header.setUint32(8, payload.length, true);
    bytes.set(payload, VHOST_USER_HEADER_BYTES);
    this.#socket.send(bytes, fds);
  }

  /** Ends it: a `receive` that waits resolves. Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    closeAll(this.#fds);
    this.#readiness.close();
    this.#socket.close();
  }
}
