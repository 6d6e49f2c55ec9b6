import { Kernel, type NetDriver, net, type OpenDevice, Switch } from "#dist/index.js";
import { loadChecksum } from "#dist/ring/checksum.js";
import { type Amount, type Case, compare, type Work } from "./harness.js";

/** What is inside the timed part. */
export const CHECKSUM_NOTE = `The Internet's checksum of bytes in memory, in WebAssembly (16 bytes \
a step, SIMD) and in TypeScript (2 bytes a step).`;

const MEMORY_BYTES = 1 << 20;
/** Of the places where what is summed begins: a half of the memory, by the cheapest remainder. */
const PLACE_MASK = (MEMORY_BYTES >> 1) - 1;
const SIZES = [64, 1500, 65_536];
const KINDS = ["wasm", "ts"] as const;

/** Sums a second, by size. */
export async function benchChecksum(amount: Amount): Promise<Case[]> {
  const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
  const bytes = new Uint8Array(memory.buffer);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Math.imul(i, 0x9e3779b1) >>> 24;
  const cases: Case[] = [];
  for (const size of SIZES) {
    const works = KINDS.map((kind) => checksumWork(kind, memory, size, amount.items));
    const measured = await compare(works, amount);
    const facts = { part: "checksum", size };
    cases.push({ bench: "net", name: `${size} bytes`, facts, sameWork: [...KINDS], measured });
  }
  return cases;
}

function checksumWork(
  kind: (typeof KINDS)[number],
  memory: WebAssembly.Memory,
  size: number,
  items: number,
): Work {
  const checksum = loadChecksum(memory, kind);
  let total = 0;
  const run = () => {
    for (let i = 0; i < items; i++) {
      total = (total + checksum.sum((i * 62) & PLACE_MASK, size)) | 0;
    }
  };
  return { name: kind, run, isAsync: false, checksum: () => total };
}

/** What is inside the timed part. */
export const SWITCH_NOTE = `Packets of 64 bytes from one port of a switch to another, in bursts of \
64: driver.sendBurst() of the one, its device, the switch, the other's device, driver.onPacket() \
of the other; all in one thread (run: "inline"), so that nobody waits for a core. The other ports, \
of switches with 2, 8 and 32 of them, have devices, too, and nothing to do.`;

const PORTS = [2, 8, 32];
const BURST = 64;
const FRAME_BYTES = 64;

interface Station {
  device: OpenDevice<"net">;
  driver: NetDriver;
}

/** A switch, and a device at each of its ports. */
class Lan implements AsyncDisposable {
  readonly #ports: number;
  readonly #lan: Switch;
  readonly #process = new Kernel().spawn({ comm: "bench", memoryBytes: 256 << 20 });
  readonly #stations: Station[] = [];

  private constructor(ports: number) {
    this.#ports = ports;
    this.#lan = new Switch({ ports });
  }

  static async open(ports: number): Promise<Lan> {
    const lan = new Lan(ports);
    for (let i = 0; i < ports; i++) await lan.#plug(i);
    return lan;
  }

  async #plug(index: number): Promise<void> {
    const [of, at] = [this.#ports, index].map((one) => one.toString(16).padStart(2, "0"));
    const mac = `02:00:00:00:${of}:${at}`; // no two in this program are the same
    const port = net({ switch: this.#lan.port(), mac });
    const device = await this.#process.open(port, { run: "inline" });
    this.#stations.push({ device, driver: await device.driver() });
  }

  /** Sends so many packets from the first to the second; `got` sees each. */
  async send(packets: number, got: (frame: Uint8Array) => void): Promise<void> {
    const [from, to] = this.#stations as [Station, Station];
    const frame = new Uint8Array(FRAME_BYTES);
    frame.set(to.driver.mac as Uint8Array, 0);
    frame.set(from.driver.mac as Uint8Array, 6);
    const frames = Array.from({ length: BURST }, (_, i) => frame.slice().fill(i, 20, 21));
    let arrived = 0;
    to.driver.onPacket = (one) => {
      arrived++;
      got(one);
    };
    for (let sent = 0; sent < packets; sent += BURST) {
      const taken = from.driver.sendBurst(frames);
      for (const { device } of this.#stations.slice(0, 2)) {
        await undefined; // a driver's turn: it publishes what it has
        while (device.runPending()) {}
      }
      await taken;
      while (arrived < sent + BURST) await new Promise<void>(setImmediate);
    }
  }

  /** The second sends one, so that the switch knows where it is. */
  async introduce(): Promise<void> {
    const [first, second] = this.#stations as [Station, Station];
    const frame = new Uint8Array(FRAME_BYTES).fill(0xff, 0, 6);
    frame.set(second.driver.mac as Uint8Array, 6);
    const sent = second.driver.send(frame);
    await undefined;
    for (const { device } of this.#stations) while (device.runPending()) {}
    await sent;
    while (first.device.runPending()) {}
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.exit();
    this.#lan.close();
  }
}

/** Packets a second by ports. Everything that it opens is closed when it is over. */
export async function benchSwitch(amount: Amount): Promise<Case[]> {
  const lans: Lan[] = [];
  try {
    for (const ports of PORTS) lans.push(await Lan.open(ports));
    for (const lan of lans) await lan.introduce();
    const works = PORTS.map((ports, i) => switchWork(ports, lans[i] as Lan, amount.items));
    const measured = await compare(works, amount);
    const sameWork = works.map(({ name }) => name);
    const facts = { part: "switch", bytes: FRAME_BYTES };
    return [{ bench: "net", name: `${FRAME_BYTES} bytes`, facts, sameWork, measured }];
  } finally {
    for (const lan of lans) await lan[Symbol.asyncDispose]();
  }
}

function switchWork(ports: number, lan: Lan, items: number): Work {
  let total = 0;
  const run = async () => {
    const began = performance.now();
    await lan.send(items, (frame) => {
      total = (total + 1 + (frame[20] as number)) | 0;
    });
    return performance.now() - began;
  };
  return { name: `${ports} ports`, run, isAsync: true, checksum: () => total };
}
