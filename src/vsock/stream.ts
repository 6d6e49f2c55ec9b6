import { Duplex } from "node:stream";
import { bufferOf } from "../memory/copy.js";
import type { VhostError } from "../spec/errno.js";
import { VIRTIO_VSOCK_PAYLOAD_BYTES_MAX } from "../spec/virtio-vsock.js";
import type { VsockConnection } from "./connection.js";

/** Milliseconds that the other side has to answer that it is done, too. Linux: CLOSE_TIMEOUT. */
const CLOSE_TIMEOUT_MS = 8000;

type Callback = (error?: Error | null) => void;

/**
 * A connection as a stream of Node's. Either side may end while the other goes on. It takes bytes
 * only as fast as they are read, and the other side sends no more than there is room for. `destroy`
 * without an error, when all was sent, is what close(2) is; any other resets the connection. Fails
 * with ECONNRESET when the other side resets it, EPIPE when it receives no more, EPROTO when it
 * breaks the rules, ENODEV when the device is gone.
 */
export class VsockStream extends Duplex {
  /** The port at this end. */
  readonly localPort: number;
  /** The port at the other end. */
  readonly remotePort: number;
  readonly #connection: VsockConnection;
  #onWritten: Callback | undefined;
  #wantsBytes = false;
  #isDue = false;
  #hasEnded = false;

  /** `connection`: established or requested, its events are the stream's from now on. */
  constructor(connection: VsockConnection) {
    super({ highWaterMark: VIRTIO_VSOCK_PAYLOAD_BYTES_MAX });
    this.localPort = connection.localPort;
    this.remotePort = connection.peerPort;
    this.#connection = connection;
    connection.events = {
      established: () => {},
      readable: () => this.#deliverSoon(),
      sent: (error) => this.#written(error),
      closed: (error) => {
        if (error) this.destroy(error);
        else this.#deliverSoon();
      },
    };
  }

  /** Not at once: a listener that throws must not do so in the middle of our work. */
  #deliverSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    process.nextTick(() => {
      this.#isDue = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    while (this.#wantsBytes && !this.destroyed && !this.#hasEnded) {
      const bytes = this.#connection.take();
      if (bytes) {
        this.#wantsBytes = this.push(bufferOf(bytes));
        continue;
      }
      if (!this.#connection.isEnded) return;
      this.#hasEnded = true;
      this.push(null);
    }
  }

  #written(error?: VhostError): void {
    const done = this.#onWritten;
    this.#onWritten = undefined;
    if (done) process.nextTick(done, error);
  }

  /** For Node. */
  override _read(): void {
    this.#wantsBytes = true;
    this.#deliver();
  }

  /** For Node. */
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Callback): void {
    this.#onWritten = done;
    this.#connection.send(chunk);
  }

  /** For Node. */
  override _writev(chunks: { chunk: Buffer }[], done: Callback): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), "binary", done);
  }

  /** For Node. */
  override _final(done: Callback): void {
    this.#connection.endSending();
    done();
  }

  /** For Node. */
  override _destroy(error: Error | null, done: Callback): void {
    if (error || this.writableLength > 0) this.#connection.reset();
    else this.#connection.close();
    const patience = () => this.#connection.reset();
    if (!this.#connection.isClosed) setTimeout(patience, CLOSE_TIMEOUT_MS).unref();
    done(error);
  }
}
