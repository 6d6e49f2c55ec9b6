// Two ends of a socket device with wires between them, moved a packet at a time.

import { VIRTIO_VSOCK_OP_RW, VMADDR_CID_HOST } from "#dist/spec/virtio-vsock.js";
import type { VsockConnection } from "#dist/vsock/connection.js";
import { VsockEndpoint, type VsockPacket } from "#dist/vsock/endpoint.js";
import type { VsockHeader } from "#dist/vsock/header.js";

export const GUEST_CID = 3;
/** Who connects to this one is accepted; to others, refused. */
export const OPEN_PORT = 7;

/** Byte `index` of what goes one way over a connection. */
const byteAt = (way: number, index: number) => (way * 59 + index * 7 + (index >> 8) * 13) & 0xff;

/** One end of a connection, and what it has sent, taken and heard. */
export class EndOfConnection {
  sent = 0;
  taken = 0;
  isSending = false;
  hasEnded = false;
  isOver = false;
  error: Error | undefined;
  lost = false;

  constructor(
    readonly connection: VsockConnection,
    readonly isHost: boolean,
    public isOpen: boolean,
  ) {
    connection.events = {
      established: () => {
        this.isOpen = true;
      },
      readable: () => {},
      sent: (error) => {
        this.isSending = false;
        if (error) this.lost = true;
      },
      closed: (error) => {
        this.isOver = true;
        this.error = error;
      },
    };
  }

  send(bytes: number): void {
    const way = this.isHost ? 1 : 2;
    const start = this.sent;
    this.sent += bytes;
    this.isSending = true;
    this.connection.send(Uint8Array.from({ length: bytes }, (_, i) => byteAt(way, start + i)));
  }

  /** Takes once, and checks what it took. */
  take(): boolean {
    const bytes = this.connection.take();
    const way = this.isHost ? 2 : 1;
    bytes?.forEach((byte, i) => {
      if (byte === byteAt(way, this.taken + i)) return;
      throw new Error(`byte ${this.taken + i} is ${byte}`);
    });
    this.taken += bytes?.length ?? 0;
    return bytes !== undefined;
  }
}

/** One end, what it has sent and the other has not got, and its connections. */
export class End {
  readonly endpoint: VsockEndpoint;
  readonly wire: VsockPacket[] = [];
  readonly connections: EndOfConnection[] = [];
  peer!: End;

  constructor(
    readonly isHost: boolean,
    readonly bufferBytes: number,
    connectionsMax = 20,
  ) {
    const [localCid, peerCid] = isHost
      ? [VMADDR_CID_HOST, GUEST_CID]
      : [GUEST_CID, VMADDR_CID_HOST];
    this.endpoint = new VsockEndpoint(
      { localCid, peerCid, bufferBytes, connectionsMax },
      {
        listens: (port) => port === OPEN_PORT,
        requested: (connection) => {
          this.connections.push(new EndOfConnection(connection, isHost, true));
          connection.accept();
        },
        ready: () => {},
      },
    );
  }

  connect(port = OPEN_PORT): EndOfConnection {
    const end = new EndOfConnection(this.endpoint.connect(port), this.isHost, false);
    this.connections.push(end);
    return end;
  }

  /** Puts its next packet on the wire. */
  pull(payloadBytesMax = 65536): VsockPacket | undefined {
    const packet = this.endpoint.next(payloadBytesMax);
    if (packet) this.wire.push({ ...packet, payload: packet.payload.slice() });
    return packet;
  }

  /** Gets the oldest packet of the other's wire. */
  deliver(): boolean {
    if (!this.endpoint.canReceive) return false;
    const packet = this.peer.wire.shift();
    if (packet) this.endpoint.receive(packet.header, packet.payload);
    return packet !== undefined;
  }

  /** Bytes on its wire for the connection of these ports. */
  bytesUnderWay(localPort: number, peerPort: number): number {
    return this.wire
      .filter(({ header: { srcPort, dstPort, op } }) => {
        return srcPort === localPort && dstPort === peerPort && op === VIRTIO_VSOCK_OP_RW;
      })
      .reduce((sum, { payload }) => sum + payload.length, 0);
  }
}

/** The host's end and the guest's, each with its buffers' size. */
export function twoEnds(hostBytes: number, guestBytes: number): [End, End] {
  const host = new End(true, hostBytes);
  const guest = new End(false, guestBytes);
  host.peer = guest;
  guest.peer = host;
  return [host, guest];
}

/** Moves packets, and takes what comes, until there is nothing to do. */
export function settle(host: End, guest: End, takes = true): void {
  for (let isBusy = true; isBusy; ) {
    isBusy = false;
    for (const end of [host, guest]) {
      while (end.pull()) isBusy = true;
      while (end.deliver()) isBusy = true;
      if (takes) for (const one of end.connections) while (one.take()) isBusy = true;
    }
  }
}

/** A header as a guest may send it. */
export function guestHeader(fields: Partial<VsockHeader>): VsockHeader {
  return {
    srcCid: GUEST_CID,
    dstCid: VMADDR_CID_HOST,
    srcPort: 1024,
    dstPort: OPEN_PORT,
    len: 0,
    type: 1,
    op: 0,
    flags: 0,
    bufAlloc: 65536,
    fwdCnt: 0,
    ...fields,
  };
}
