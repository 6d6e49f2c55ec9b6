import { tmpdir } from "node:os";
import type { Amount, Case, Measured } from "./harness.js";
import { median } from "./harness.js";
import { type NetPeer, type Sample, sample, type Traffic } from "./net-dpdk-peers.js";
import { tempFolder } from "./temp-folder.js";

/** What is inside the timed part. */
export const NET_DPDK_NOTE = `Packets over vhost-user, between DPDK's testpmd (virtio_user, txonly \
or rxonly, bursts of 32, rings of 256) on core 0, which counts them, and core 1: a network device \
of ours that takes or sends packets, each copied, in a process of its own; or testpmd with \
net_vhost, which does the same. In turn; the median of a sample's seconds, and of the samples.`;

const PEERS: readonly NetPeer[] = ["vhost-wasm", "net_vhost"];
const FRAME_BYTES = [64, 1500];
const NS_PER_SECOND = 1e9;

/** `amount`: `rounds` of a sample of each, which lasts so many seconds as `samples` says. */
export async function benchNetDpdk(amount: Amount, isSmoke = false): Promise<Case[]> {
  const cases: Case[] = [];
  for (const isPacked of isSmoke ? [false] : [false, true]) {
    for (const isFromGuest of isSmoke ? [true] : [true, false]) {
      for (const frameBytes of isSmoke ? [64] : FRAME_BYTES) {
        cases.push(await benchTraffic({ isPacked, isFromGuest, frameBytes }, amount));
      }
    }
  }
  return cases;
}

async function benchTraffic(traffic: Traffic, amount: Amount): Promise<Case> {
  using folder = tempFolder(tmpdir());
  const samples = new Map<NetPeer, Sample[]>(PEERS.map((peer) => [peer, []]));
  for (let round = 0; round < amount.rounds; round++) {
    for (const peer of round % 2 === 0 ? PEERS : PEERS.toReversed()) {
      samples.get(peer)?.push(await sample(peer, traffic, folder.path, amount.samples));
    }
  }
  const { isPacked, isFromGuest, frameBytes } = traffic;
  const ring = isPacked ? "packed" : "split";
  const name = `${frameBytes} bytes ${isFromGuest ? "from" : "to"} the guest, ${ring}`;
  const facts = { part: "dpdk", bytes: frameBytes, ring, way: isFromGuest ? "tx" : "rx" };
  const measured = PEERS.map((peer) => measure(peer, samples));
  return { bench: "net", name, facts, sameWork: [...PEERS], measured };
}

/**
 * `checksum`: bytes of a frame, as testpmd has counted them; rounded, since it goes on counting
 * while it says so.
 */
function measure(name: NetPeer, samples: ReadonlyMap<NetPeer, readonly Sample[]>): Measured {
  const own = samples.get(name) as readonly Sample[];
  const first = samples.get(PEERS[0] as NetPeer) as readonly Sample[];
  const itemsPerSecond = median(own.map(({ packetsPerSecond }) => packetsPerSecond));
  const ratios = own.map(
    ({ packetsPerSecond }, i) => (first[i]?.packetsPerSecond ?? 0) / packetsPerSecond,
  );
  const checksum = Math.round(own.at(-1)?.frameBytes ?? 0);
  const nsPerItem = NS_PER_SECOND / itemsPerSecond;
  return { name, nsPerItem, itemsPerSecond, checksum, timesSlower: median(ratios) };
}
