import { VhostError } from "../spec/errno.js";
import { hasFeature } from "../spec/features.js";
import { VIRTIO_F_RING_RESET } from "../spec/virtio-config.js";
import type { RingStart, WorkerControl } from "./control.js";
import { type RingsEnvironment, Vring, type VringAddresses } from "./vring.js";

/**
 * The rings of one device, and the region table that they share while the device is started.
 * Owner's thread.
 */
export class RingSet {
  readonly #vrings: readonly Vring[];
  #environment: RingsEnvironment | undefined;

  /** `queueSizeMax`: entries that a ring has at most, and until its size is set. */
  constructor(queueCount: number, queueSizeMax: number) {
    this.#vrings = Array.from({ length: queueCount }, () => new Vring(queueSizeMax));
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
    const regions = shared.allocHost(Math.max(memory.tableBytes, 8));
    memory.writeTo(shared.view, regions);
    const environment = { ...setup, regions };
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
    const { notify } = vring;
    return { index, ...place, ...notify, awaitsKick: notify.awaitsKick ?? false };
  }

  /**
   * Takes one ring from the worker and forgets what the driver said of it. Rejects with ENOBUFS,
   * with EINVAL when VIRTIO_F_RING_RESET was not accepted or the device is not started, and with
   * what the device's own reset of a queue throws: the ring is stopped all the same.
   */
  async resetOne(index: number, control: WorkerControl): Promise<void> {
    const vring = this.at(index);
    this.#mustReset(index);
    try {
      if (vring.isLaidOut) await control.stopQueue(index);
    } finally {
      vring.release();
      vring.reset();
    }
  }

  /**
   * Lays one ring out, by `setup` if there is one, and gives it to the worker. Rejects with EBUSY
   * when it runs, EINVAL when it has no areas, and with what `layOut` throws and what is said at
   * `resetOne`.
   */
  async startOne(
    index: number,
    control: WorkerControl,
    setup?: VringAddresses & { num: number },
  ): Promise<void> {
    const vring = this.at(index);
    const environment = this.#mustReset(index);
    if (vring.isLaidOut) throw new VhostError("EBUSY", `queue ${index} runs: reset it first`);
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
    environment?.shared.host.free(environment.regions);
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
