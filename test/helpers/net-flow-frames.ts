// Frames of flows: IPv4 and IPv6, TCP and UDP, with the parts that say of which flow they are.

/** One end of a flow. */
export interface Endpoint {
  mac: number;
  address: number;
  port: number;
}

export interface FlowEnds {
  from: Endpoint;
  to: Endpoint;
}

export interface FlowKind {
  version: 4 | 6;
  /** 6: TCP; 17: UDP. */
  protocol: number;
  vlan?: number;
  /** Words of options in an IPv4 header. */
  optionWords?: number;
  /** IPv4's flags and offset of a fragment. */
  fragment?: number;
}

/** The other way. */
export const swapEnds = ({ from, to }: FlowEnds): FlowEnds => ({ from: to, to: from });

function ethernet({ vlan, version }: FlowKind, { from, to }: FlowEnds): Buffer {
  const head = Buffer.alloc(14);
  head.writeUIntBE(to.mac, 0, 6);
  head.writeUIntBE(from.mac, 6, 6);
  const type = Buffer.alloc(2);
  type.writeUInt16BE(version === 4 ? 0x0800 : 0x86dd);
  if (vlan === undefined) {
    type.copy(head, 12);
    return head;
  }
  head.writeUInt16BE(0x8100, 12);
  const tag = Buffer.alloc(2);
  tag.writeUInt16BE(vlan);
  return Buffer.concat([head, tag, type]);
}

function ip({ version, protocol, optionWords = 0, fragment = 0 }: FlowKind, ends: FlowEnds) {
  if (version === 4) {
    const header = Buffer.alloc(20 + 4 * optionWords, 1);
    header[0] = 0x45 + optionWords;
    header.writeUInt16BE(fragment, 6);
    header[9] = protocol;
    header.writeUInt32BE(ends.from.address, 12);
    header.writeUInt32BE(ends.to.address, 16);
    return header;
  }
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header[6] = protocol;
  header.writeUInt32BE(ends.from.address, 20);
  header.writeUInt32BE(ends.to.address, 36);
  return header;
}

/** TCP over IPv4, from `port` of one station to port 80 of another, there and back. */
export function flow(port: number): { out: Buffer; back: Buffer } {
  const ends = { from: { mac: 2, address: 1, port }, to: { mac: 4, address: 2, port: 80 } };
  const kind = { version: 4, protocol: 6 } as const;
  return { out: flowFrame(kind, ends), back: flowFrame(kind, swapEnds(ends)) };
}

/** A frame of the flow, with 40 bytes behind its ports. */
export function flowFrame(kind: FlowKind, ends: FlowEnds): Buffer {
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(ends.from.port, 0);
  ports.writeUInt16BE(ends.to.port, 2);
  return Buffer.concat([ethernet(kind, ends), ip(kind, ends), ports, Buffer.alloc(40)]);
}
