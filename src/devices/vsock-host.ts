import { eventfdWaker } from "../kernel/eventfd-waker.js";
import type { Waker } from "../kernel/wait.js";
import { copyTo } from "../memory/copy.js";
import { VhostError } from "../spec/errno.js";
import { VIRTIO_VSOCK_HEADER_BYTES, VIRTIO_VSOCK_PAYLOAD_BYTES_MAX } from "../spec/virtio-vsock.js";
import type { DeviceHost } from "../vhost/device.js";
import { readHeader, writeHeader } from "../vsock/header.js";
import type { VsockSockets } from "../vsock/sockets.js";
import { VsockLink, type VsockLinkBuffers } from "./vsock-link.js";

/**
 * Moves packets between the host's sockets, in the opening thread, and the device in its worker.
 * Neither waits for the other: what there is no room for stays where it is.
 */
export class VsockHost {
  readonly #sockets: VsockSockets;
  readonly #link = new VsockLink();
  readonly #waker: Waker;
  #generation = this.#link.generation;
  /** Numbers of those packets in the pipe to the guest which are replies. */
  readonly #replies: number[] = [];
  #isDue = false;
  #isClosed = false;

  /** Begins at once. The sockets are open from now on. `cid`: the guest's; 0: it has none yet. */
  constructor(
    sockets: VsockSockets,
    { worker, wakeFd }: Pick<DeviceHost, "worker" | "wakeFd">,
    cid: number,
  ) {
    this.#sockets = sockets;
    this.#waker = eventfdWaker(worker.words, wakeFd);
    this.#link.cid = cid;
    sockets.open();
    void this.#link.hostBell.answer(
      () => this.work(),
      () => this.#isClosed,
    );
  }

  /** For the device. */
  get buffers(): VsockLinkBuffers {
    return this.#link.buffers;
  }

  /** For a device in this thread: what it sends is taken before it takes more of the guest's. */
  get inline(): VsockLink {
    this.#link.work = () => {
      this.lookForReset();
      this.#take();
    };
    return this.#link;
  }

  /** The guest has another CID from now on. */
  setCid(cid: number): void {
    this.#link.cid = cid;
  }

  /** The sockets have something to send: soon, all that one turn brings at once. */
  flushSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    queueMicrotask(() => {
      this.#isDue = false;
      if (!this.#isClosed) this.work();
    });
  }

  /** Takes what has come and sends what there is. Whether there was anything. */
  work(): boolean {
    this.lookForReset();
    const hasTaken = this.#take();
    return this.#send() || hasTaken;
  }

  /** After a reset of the device, connections that were before it are over. */
  lookForReset(): void {
    const { generation } = this.#link;
    if (generation === this.#generation) return;
    this.#generation = generation;
    const message = "the guest has reset the device";
    this.#sockets.endpoint.reset(new VhostError("ECONNRESET", message));
  }

  #take(): boolean {
    const { toHost } = this.#link;
    const { endpoint } = this.#sockets;
    let taken = 0;
    for (let left = toHost.packets; left > 0 && endpoint.canReceive; left--, taken++) {
      const packet = toHost.peek();
      if (!packet) break;
      const { bytes, generation } = packet;
      if (generation !== this.#generation) this.lookForReset(); // the worker has, meanwhile
      if (generation === this.#generation) {
        const header = readHeader(new DataView(bytes.buffer, bytes.byteOffset));
        endpoint.receive(header, bytes.subarray(VIRTIO_VSOCK_HEADER_BYTES));
      }
      toHost.drop();
    }
    const hasRoom = this.#countReplies() || taken > 0;
    if (hasRoom && this.#link.stalled.ring()) this.#waker.wake();
    return taken > 0;
  }

  /** Says how many replies the guest has not got. Whether there are fewer than before. */
  #countReplies(): boolean {
    const { toGuest, replies } = this.#link;
    const { writtenPackets, packets } = toGuest;
    const oldest = writtenPackets - packets;
    while (this.#replies.length > 0 && ((this.#replies[0] as number) - oldest) >> 0 < 0) {
      this.#replies.shift();
    }
    const count = this.#replies.length + this.#sockets.endpoint.replyCount;
    if (count !== replies) this.#link.replies = count;
    return count < replies;
  }

  #send(): boolean {
    const { toGuest } = this.#link;
    let sent = 0;
    for (; toGuest.room > 0; sent++) {
      const { endpoint } = this.#sockets;
      const isReply = endpoint.replyCount > 0;
      const packet = endpoint.next(VIRTIO_VSOCK_PAYLOAD_BYTES_MAX);
      if (!packet) break;
      if (isReply) this.#replies.push(toGuest.writtenPackets);
      const place = toGuest.begin();
      writeHeader(new DataView(place.buffer, place.byteOffset), 0, packet.header);
      copyTo(place, VIRTIO_VSOCK_HEADER_BYTES, packet.payload);
      toGuest.end(this.#generation, VIRTIO_VSOCK_HEADER_BYTES + packet.payload.length);
    }
    if (sent > 0) this.#waker.wake();
    return sent > 0;
  }

  /** Ends all connections; the guest is told so by an event. */
  resetTransport(): void {
    this.#sockets.endpoint.reset(new VhostError("ECONNRESET", "the transport was reset"));
    this.#link.askResetEvent();
    this.#waker.wake();
  }

  /** The device is gone: all streams end. Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#sockets.close(new VhostError("ENODEV", "the device is closed"));
    this.#link.hostBell.ring(); // ends the wait
  }
}
