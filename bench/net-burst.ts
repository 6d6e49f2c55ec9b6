import { NetDevice } from "#dist/devices/net-device.js";
import { NetStages, type NetStagesPlace } from "#dist/devices/net-stage.js";
import { NetSwitchPort } from "#dist/devices/net-switch-port.js";
import { NetSwitchState, PORT_ACCESS } from "#dist/devices/net-switch-state.js";
import { GuestMemory } from "#dist/memory/guest-memory.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import { vringAreas } from "#dist/memory/vring.js";
import { loadChecksum } from "#dist/ring/checksum.js";
import { loadRings, type RingKind } from "#dist/ring/load.js";
import type { DriverRing } from "#dist/ring/ring.js";
import { allocDeviceState, allocDriverState } from "#dist/ring/state-block.js";
import { RingTables } from "#dist/ring/tables.js";
import { featureMask } from "#dist/spec/features.js";
import {
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "#dist/spec/virtio-config.js";
import { VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_HDR_BYTES } from "#dist/spec/virtio-net.js";
import type { DeviceHost, VirtioDevice } from "#dist/vhost/device.js";
import { Virtqueue } from "#dist/vhost/virtqueue.js";
import { type Amount, type Case, compare, type Work } from "./harness.js";
import { createDevice, prepare } from "./net-dpdk-device.js";

/** What is inside the timed part. */
export const NET_BURST_NOTE = `The device of the next table, its side alone: buffers and features \
as testpmd's, rings of 256, full each time; the driver is in the same thread and is not timed. \
With stages, by which packets are moved a burst at a time; and without, one by one. And from the \
guest, a device at a port of a switch, with stages; the other port's queue is emptied between.`;

const MEMORY_PAGES = 256;
const NUM = 256;
/** Buffers as DPDK has them: more than the ring takes, 116 bytes into their places. */
const BUFFERS = 700;
const BUFFER_STRIDE = 2304;
const BUFFER_OFFSET = 116;
const RECEIVE_BYTES = 2060;
const BURST = 32;
const POSITION = { split: 0, packed: 0x8000_8000 };
const FRAME_BYTES = [64, 1500];

const PORTS = { ports: 2, queueBytes: 1 << 20, ageSeconds: 300 };
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);

/** What is at the wire's end. */
const ENDS = ["stages", "without", "switch"] as const;
type EndName = (typeof ENDS)[number];

/** What goes over the wire. */
interface Traffic {
  ring: "split" | "packed";
  isFromGuest: boolean;
  frameBytes: number;
}

/** A driver and a device in one thread, and one queue. */
class Line {
  readonly #traffic: Traffic;
  readonly #driver: DriverRing;
  readonly #tables: RingTables;
  readonly #buffers: number;
  readonly #device: VirtioDevice;
  readonly #vq: Virtqueue;
  /** Takes what came through a switch. */
  #empty: () => void = () => {};
  #slot = 0;
  /** Bytes of buffers that were used, and how many. */
  total = 0;

  constructor(traffic: Traffic, end: EndName) {
    this.#traffic = traffic;
    const { ring, isFromGuest } = traffic;
    const pages = { initial: MEMORY_PAGES, maximum: MEMORY_PAGES };
    const memory = new WebAssembly.Memory({ ...pages, shared: true });
    const shared = SharedMemory.of(memory);
    const packed = ring === "packed" ? [VIRTIO_F_RING_PACKED] : [];
    const features = featureMask(
      ...[VIRTIO_F_VERSION_1, VIRTIO_F_IN_ORDER, VIRTIO_NET_F_MRG_RXBUF],
      ...packed,
    );
    const areas = vringAreas(NUM, ring === "packed");
    const [desc = 0, driver = 0, device = 0] = [areas.desc, areas.driver, areas.device].map(
      ({ bytes }) => shared.allocGuest(bytes, 64),
    );
    const setup = { num: NUM, desc, driver, device, features };
    const rings = loadRings(memory);
    const { vq: driverVq } = allocDriverState(shared, setup);
    const { vq: deviceVq } = allocDeviceState(shared, setup, writeRegions(shared), 1);
    this.#buffers = shared.allocGuest(BUFFERS * BUFFER_STRIDE, 64);
    this.#driver = rings.driver(driverVq);
    this.#driver.reset();
    this.#tables = new RingTables(memory, driverVq);
    const deviceRing = rings.device(deviceVq);
    deviceRing.start(POSITION[ring]);
    this.#vq = new Virtqueue(isFromGuest ? 1 : 0, deviceRing, memory, {
      call() {},
      error() {},
      fail() {},
      count: (requests, bytes) => {
        this.total = (this.total + requests + bytes) | 0;
      },
      now: () => performance.now(),
      polls: () => true,
    });
    this.#device = this.#makeDevice(shared, end);
    this.#device.start?.(features);
  }

  #makeDevice(shared: SharedMemory, end: EndName): VirtioDevice {
    const { memory } = shared;
    const { isFromGuest, frameBytes } = this.#traffic;
    const ringKind: RingKind = end === "without" ? "ts" : "wasm"; // says whether there are stages
    const options = { frameBytes: isFromGuest ? 0 : frameBytes };
    const parts = prepare(options, { shared, ringKind } as DeviceHost);
    if (end !== "switch") return createDevice(parts.options, { memory, claims: [] });
    const state = new NetSwitchState(PORTS);
    const { buffers } = state;
    const { place } = parts.options as { place: NetStagesPlace };
    const at = (port: number) => ({ buffers, port, channel: "bench" });
    const port = new NetSwitchPort(at(0), false, new NetStages(memory, place));
    const other = new NetSwitchPort(at(1));
    state.setMode(1, PORT_ACCESS);
    this.#empty = () => other.reset();
    const settings = { mac: MAC, mtu: 1500, queueSize: NUM, queuePairs: 1 };
    return new NetDevice(settings, port, loadChecksum(memory));
  }

  #fill(): void {
    const { isFromGuest, frameBytes } = this.#traffic;
    const bytes = isFromGuest ? VIRTIO_NET_HDR_BYTES + frameBytes : RECEIVE_BYTES;
    for (let added = 0; added < NUM; added += BURST) {
      for (let i = 0; i < BURST; i++) {
        const place = this.#buffers + this.#slot * BUFFER_STRIDE + BUFFER_OFFSET;
        this.#slot = (this.#slot + 1) % BUFFERS;
        this.#tables.setChain(i, i, isFromGuest ? 1 : 0, isFromGuest ? 0 : 1);
        this.#tables.setIov(i, place, bytes);
      }
      this.#driver.addBufs(BURST);
      this.#driver.publish();
    }
  }

  /** A full ring of packets; how many milliseconds the device took for it. */
  turn(): number {
    this.#fill();
    const began = performance.now();
    do {
      this.#device.poll?.();
      this.#vq.begin();
      this.#device.handleKick(this.#vq);
      this.#vq.settle();
    } while (this.#vq.hasChains);
    const took = performance.now() - began;
    this.#empty();
    for (let back = 0; back < NUM; ) back += this.#driver.getBufs(NUM);
    return took;
  }
}

/** All of the memory that is the guest's, in one region. */
function writeRegions(shared: SharedMemory): number {
  const { guestStart, guestBytes } = shared;
  const table = new GuestMemory(
    [
      {
        guestAddress: shared.toGuest(guestStart),
        sizeBytes: BigInt(guestBytes),
        linearAddress: guestStart,
      },
    ],
    guestStart,
    guestStart + guestBytes,
  );
  const regions = shared.allocHost(table.tableBytes);
  table.writeTo(shared.view, regions);
  return regions;
}

function work(name: EndName, traffic: Traffic, turns: number): Work {
  const line = new Line(traffic, name);
  const run = async () => {
    let took = 0;
    for (let i = 0; i < turns; i++) took += line.turn();
    return took;
  };
  return { name, run, isAsync: true, items: turns * NUM, checksum: () => line.total };
}

/** Packets a second, by ring, way and size; `items`: rings full of them. */
export async function benchNetBurst(amount: Amount): Promise<Case[]> {
  const cases: Case[] = [];
  for (const ring of ["split", "packed"] as const) {
    for (const isFromGuest of [true, false]) {
      for (const frameBytes of FRAME_BYTES) {
        const traffic = { ring, isFromGuest, frameBytes };
        const ends = ENDS.filter((end) => isFromGuest || end !== "switch");
        const works = ends.map((name) => work(name, traffic, amount.items));
        const measured = await compare(works, amount);
        const name = `${frameBytes} bytes ${isFromGuest ? "from" : "to"} the guest, ${ring}`;
        const facts = { part: "burst", bytes: frameBytes, ring, way: isFromGuest ? "tx" : "rx" };
        cases.push({ bench: "net", name, facts, sameWork: ends, measured });
      }
    }
  }
  return cases;
}
