import {
  ETH_P_IP,
  ETH_P_IPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV4_ADDRESSES,
  IPV4_FRAGMENT,
  IPV4_FRAGMENT_MASK,
  IPV4_HDR_BYTES_MAX,
  IPV4_HDR_BYTES_MIN,
  IPV4_PROTOCOL,
  IPV6_ADDRESSES,
  IPV6_HDR_BYTES,
  IPV6_NEXT_HEADER,
} from "../spec/inet.js";
import { ETH_ALEN, ETH_HLEN, ETH_P_8021Q, VLAN_HLEN } from "../spec/virtio-net.js";
import { u16At } from "./net-tag.js";

/** Bytes of two ports. */
const PORTS_BYTES = 4;
/** Bytes of a frame that say of which flow it is. */
export const FLOW_HEAD_BYTES = ETH_HLEN + VLAN_HLEN + IPV4_HDR_BYTES_MAX + PORTS_BYTES;
/** Flows are told apart by so many numbers. */
const BUCKETS = 1024;

/** The sum of 16-bit words: the same in any order of them, so for both ways of a flow. */
function sumOf(bytes: Uint8Array, at: number, words: number): number {
  let sum = 0;
  for (let i = 0; i < words; i++) sum += u16At(bytes, at + 2 * i);
  return sum;
}

function portsSum(bytes: Uint8Array, at: number, end: number, protocol: number): number {
  const hasPorts = protocol === IPPROTO_TCP || protocol === IPPROTO_UDP;
  return hasPorts && at + PORTS_BYTES <= end ? protocol + sumOf(bytes, at, 2) : protocol;
}

/** Fragments have no ports, but for the first: none of them goes by its ports. */
function ipv4Sum(bytes: Uint8Array, at: number, end: number): number {
  const addresses = sumOf(bytes, at + IPV4_ADDRESSES, 4);
  if ((u16At(bytes, at + IPV4_FRAGMENT) & IPV4_FRAGMENT_MASK) !== 0) return addresses;
  const headerBytes = ((bytes[at] as number) & 0xf) * 4;
  return addresses + portsSum(bytes, at + headerBytes, end, bytes[at + IPV4_PROTOCOL] as number);
}

function ipv6Sum(bytes: Uint8Array, at: number, end: number): number {
  const protocol = bytes[at + IPV6_NEXT_HEADER] as number;
  const addresses = sumOf(bytes, at + IPV6_ADDRESSES, 16);
  return addresses + portsSum(bytes, at + IPV6_HDR_BYTES, end, protocol);
}

/**
 * A number of the flow that a frame is of, the same for both ways of it: of its addresses and
 * ports; where it has none, of its stations. Of the frame, `length` bytes from `at` on are there,
 * ETH_HLEN at least.
 */
export function flowHash(bytes: Uint8Array, at: number, length: number): number {
  const end = at + length;
  let start = at + ETH_HLEN;
  let type = u16At(bytes, start - 2);
  if (type === ETH_P_8021Q && start + VLAN_HLEN <= end) {
    start += VLAN_HLEN;
    type = u16At(bytes, start - 2);
  }
  let sum = 0;
  if (type === ETH_P_IP && start + IPV4_HDR_BYTES_MIN <= end) sum = ipv4Sum(bytes, start, end);
  else if (type === ETH_P_IPV6 && start + IPV6_HDR_BYTES <= end) sum = ipv6Sum(bytes, start, end);
  else sum = sumOf(bytes, at, ETH_ALEN);
  const hash = Math.imul(sum ^ (sum >>> 15), 0x9e3779b1);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/**
 * Which pair of queues has a flow: that on which the guest has sent last. virtio 1.3, 5.1.6.5.5.1
 * Automatic receive steering in multiqueue mode.
 */
export class NetFlows {
  /** The pair and 1; 0: nothing was sent. */
  readonly #pairs = new Uint8Array(BUCKETS);

  /** The guest has sent the frame on `pair`. */
  learn(bytes: Uint8Array, at: number, length: number, pair: number): void {
    this.#pairs[flowHash(bytes, at, length) & (BUCKETS - 1)] = pair + 1;
  }

  /** The pair for a frame to the guest, of those below `pairs`. */
  pairOf(bytes: Uint8Array, at: number, length: number, pairs: number): number {
    const hash = flowHash(bytes, at, length);
    const pair = (this.#pairs[hash & (BUCKETS - 1)] as number) - 1;
    return pair >= 0 && pair < pairs ? pair : hash % pairs;
  }

  /** Nothing was sent. */
  reset(): void {
    this.#pairs.fill(0);
  }
}
