import type { GuestMemory } from "../memory/guest-memory.js";
import type { SharedMemory } from "../memory/shared-memory.js";
import { VhostError } from "../spec/errno.js";
import { hasFeature } from "../spec/features.js";
import { VIRTIO_F_RING_RESET } from "../spec/virtio-config.js";
import type { RingPosition, RingStart, WorkerControl } from "./control.js";
import type { RegionTable } from "./live-ring.js";
import { passQueue } from "./pass-queue.js";
import { type RingsEnvironment, Vring, type VringAddresses, type VringPlaces } from "./vring.js";

/**
 * The rings of one device, and the region table that they share while the device is started.
 * Owner's thread.
 */
export class RingSet {
  readonly #vrings: readonly Vring[];
  readonly #starts = new Map<number, RingStart>();
  #environment: RingsEnvironment | undefined;

  /** `queueSizeMax`: entries that a ring has at most, and until its size is set. */
  constructor(queueCount: number, queueSizeMax: number) {
    this.#vrings = Array.from({ length: queueCount }, () => new Vring(queueSizeMax));
  }

  /** How many there are. */
  get count(): number {
    return this.#vrings.length;
  }

  /** A ring. Throws ENOBUFS. */
  at(index: number): Vring {
    const vring = this.#vrings[index];
    if (vring) return vring;
    throw new VhostError("ENOBUFS", `there is no queue ${index}`, {
      queueCount: this.#vrings.length,
    });
  }

  /** Whether the device is started: rings may run. */
  get isStarted(): boolean {
    return this.#environment !== undefined;
  }

  /**
   * Lays out every ring whose areas are set, and the region table, for the worker to start. Throws
   * EFAULT, EINVAL, ENOMEM: nothing is kept then.
   */
  layOut(setup: Omit<RingsEnvironment, "regions">): RingStart[] {
    const { shared, memory } = setup;
    const environment = { ...setup, regions: layOutRegions(shared, memory) };
    this.#environment = environment;
    try {
      const ready = [...this.#vrings.entries()].filter(([, vring]) => vring.addresses);
      return ready.map(([index]) => this.#layOutOne(index, environment));
    } catch (error) {
      this.release();
      throw error;
    }
  }

  #layOutOne(index: number, environment: RingsEnvironment): RingStart {
    const vring = this.at(index);
    if (!vring.addresses) {
      throw new VhostError("EINVAL", `queue ${index} was not set up`, { index });
    }
    const place = vring.layOut(environment);
    const { notify, busyloopMicroseconds } = vring;
    const awaitsKick = notify.awaitsKick ?? false;
    const start = { index, ...place, ...notify, awaitsKick, busyloopMicroseconds };
    this.#starts.set(index, start);
    return start;
  }

  /**
   * All rings that run go by `memory` from now on; `controlOf`: what can be asked of a ring's
   * worker, `undefined` if it is dead; one that dies meanwhile has left its rings. Rejects with
   * EFAULT and EINVAL for areas that are not in it, ENOMEM: nothing has changed then; and, when all
   * is done, with what the device throws that is to answer what it holds: that ring stands still.
   */
  async remap(
    memory: GuestMemory,
    controlOf: (index: number) => Promise<WorkerControl | undefined>,
  ): Promise<void> {
    const old = this.#environment;
    if (!old) return;
    const running = [...this.#vrings.entries()].filter(([, { isActive }]) => isActive);
    const areas = running.map(([, vring]) => vring.translate(memory, old.features));
    const environment = { ...old, memory, regions: layOutRegions(old.shared, memory) };
    this.#environment = environment;
    const failures: unknown[] = [];
    for (const [i, [index, vring]] of running.entries()) {
      const control = await controlOf(index);
      const goesOn = () => {
        vring.remap(environment, areas[i] as VringPlaces);
        return this.startOf(index);
      };
      if (!control) goesOn();
      else
        await passQueue(control, index, goesOn).catch(async (error) => {
          if (await controlOf(index)) failures.push(error); // else it has died
        });
    }
    old.shared.host.free(old.regions.address);
    if (failures.length > 0) throw failures[0];
  }

  /** What a ring was started with; `undefined`: it does not run. Throws ENOBUFS. */
  startOf(index: number): RingStart | undefined {
    const { isActive, busyloopMicroseconds } = this.at(index);
    const start = this.#starts.get(index);
    return isActive && start ? { ...start, busyloopMicroseconds } : undefined;
  }

  /**
   * All rings were stopped, and are at `positions`, but for those that wait for their first kick;
   * where a worker died, its rings are at what their state blocks say. Gives back what they were
   * laid out in.
   */
  stopped(positions: readonly RingPosition[], features: bigint): void {
    const known = new Map(positions.map((one) => [one.index, one]));
    for (const [index, vring] of this.#vrings.entries()) {
      const told = known.get(index);
      const position = told?.position ?? (vring.isActive ? vring.position(features) : undefined);
      if (position === undefined || (!told && vring.notify.awaitsKick)) continue;
      vring.setBase(position, features);
      vring.notify = { ...vring.notify, awaitsKick: told?.awaitsKick ?? false };
    }
    this.release();
  }

  /**
   * Takes one ring from its worker (`undefined`: that is dead) and forgets what the driver said of
   * it. Rejects with ENOBUFS,
   * with EINVAL when VIRTIO_F_RING_RESET was not accepted or the device is not started, and with
   * what the device's own reset of a queue throws: the ring is stopped all the same.
   */
  async resetOne(index: number, control: WorkerControl | undefined): Promise<void> {
    const vring = this.at(index);
    this.#mustReset(index);
    try {
      if (vring.isActive) await control?.stopQueue(index);
    } finally {
      vring.release();
      vring.reset();
    }
  }

  /**
   * Lays one ring out, by `setup` if there is one, and gives it to its worker. Rejects with EBUSY
   * when it runs, EINVAL when it has no areas, EIO when the worker is dead, and with what `layOut`
   * throws and what is said at `resetOne`.
   */
  async startOne(
    index: number,
    control: WorkerControl | undefined,
    setup?: VringAddresses & { num: number },
  ): Promise<void> {
    const vring = this.at(index);
    const environment = this.#mustReset(index);
    vring.mustBeIdle();
    if (!control) throw new VhostError("EIO", `the worker of queue ${index} is dead`, { index });
    if (setup) vring.setUp(setup, environment.features);
    try {
      await control.startQueue(this.#layOutOne(index, environment));
    } catch (error) {
      vring.release();
      throw error;
    }
  }

  #mustReset(index: number): RingsEnvironment {
    const environment = this.#environment;
    if (!environment) throw new VhostError("EINVAL", "the device is not started", { index });
    if (hasFeature(environment.features, VIRTIO_F_RING_RESET)) return environment;
    throw new VhostError("EINVAL", "VIRTIO_F_RING_RESET was not negotiated", { index });
  }

  /** The worker has stopped all of them: gives back what they were laid out in. */
  release(): void {
    for (const vring of this.#vrings) vring.release();
    const environment = this.#environment;
    this.#environment = undefined;
    environment?.shared.host.free(environment.regions.address);
  }

  /** Forgets what the driver has said. Only when they are released. */
  reset(): void {
    for (const vring of this.#vrings) vring.reset();
  }

  /** How often each ring error happened, by queue and name; queues without errors are left out. */
  errorCounts(): Record<number, Record<string, number>> {
    const counts = this.#vrings.map((vring, index) => [index, vring.errorCounts()] as const);
    return Object.fromEntries(counts.filter(([, errors]) => Object.keys(errors).length > 0));
  }
}

/** A region table; to be given back with `host.free`. Throws ENOMEM. */
function layOutRegions(shared: SharedMemory, memory: GuestMemory): RegionTable {
  const address = shared.allocHost(Math.max(memory.tableBytes, 8));
  memory.writeTo(shared.view, address);
  return { address, count: memory.regions.length };
}
