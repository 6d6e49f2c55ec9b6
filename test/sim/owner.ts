import type { QueueAddresses } from "#dist/driver/transport.js";
import { GuestMemory } from "#dist/memory/guest-memory.js";
import { GUEST_BASE, type SharedMemory } from "#dist/memory/shared-memory.js";
import type { RingStart } from "#dist/vhost/control.js";
import { Vring } from "#dist/vhost/vring.js";
import type { VhostWorker } from "#dist/vhost/worker.js";
import type { DirtyPages } from "./dirty-log.js";
import type { Recovery, StartedRing } from "./recovery.js";
import type { Wires } from "./wires.js";
import { must, type World } from "./world.js";

/** The largest queue that the device offers. */
export const QUEUE_SIZE_MAX = 64;

interface Operation {
  name: string;
  run(worker: VhostWorker): Promise<void>;
  done(): void;
  /** It is done again when its worker is killed amid it. */
  isRepeated: boolean;
}

/** What the owner needs of the worker's task. */
export interface WorkerTask {
  /** Wakes it, for a message. */
  wake(): void;
  /** Before a stop: what the device does by itself is ended. */
  settle(): void;
  /** The rings are not the worker's any more. */
  forgetRings(): void;
}

/** The control side of the device, as `VhostDev`: its queues, and messages to the worker. */
export class Owner {
  readonly #world: World;
  readonly #wires: Wires;
  readonly #shared: SharedMemory;
  readonly #recovery: Recovery;
  readonly #memory: GuestMemory;
  readonly #dirty: DirtyPages | undefined;
  readonly #operations: Operation[] = [];
  readonly #vrings: Vring[];
  /** Queues that ran, and told where they were when they were stopped. */
  readonly #stopped = new Set<number>();
  #features = 0n;
  #regionTable = 0;
  #rings: readonly RingStart[] = [];
  /** Counts resets: what was begun before one is void after it. */
  #life = 0;
  task!: WorkerTask;
  /** Queues that run, or ran when their worker was killed. */
  started: StartedRing[] = [];
  /** A killed worker left the rings so that nothing but a reset helps. */
  needsReset = false;

  constructor(
    world: World,
    wires: Wires,
    shared: SharedMemory,
    recovery: Recovery,
    dirty: DirtyPages | undefined,
  ) {
    this.#world = world;
    this.#wires = wires;
    this.#shared = shared;
    this.#recovery = recovery;
    this.#dirty = dirty;
    const { guestStart, guestBytes } = shared;
    const region = {
      guestAddress: GUEST_BASE,
      sizeBytes: BigInt(guestBytes),
      linearAddress: guestStart,
    };
    this.#memory = new GuestMemory([region], guestStart, guestStart + guestBytes);
    this.#vrings = Array.from({ length: world.config.queueCount }, () => new Vring(QUEUE_SIZE_MAX));
  }

  /** The driver accepts features. */
  setFeatures(features: bigint): void {
    this.#features = features;
  }

  /** The driver tells of a queue; `position`: where a split ring is. */
  setupQueue(index: number, { num, ...addresses }: QueueAddresses, position: number): void {
    const vring = this.#vrings[index] as Vring;
    vring.setNum(num, this.#features);
    if (position !== 0) vring.setBase(position, this.#features);
    vring.addresses = addresses;
    if (this.#world.config.logsRings) vring.logAddress = addresses.device;
  }

  #post(name: string, run: Operation["run"], done = () => {}, isRepeated = false): void {
    this.#operations.push({ name, run, done, isRepeated });
    this.#wires.doorbell.ringControl();
    this.task.wake();
  }

  /** The worker's thread: answers all messages. Throws `Killed`. */
  async serve(worker: VhostWorker): Promise<void> {
    for (let next = this.#operations[0]; next; next = this.#operations[0]) {
      this.#world.say(`worker: ${next.name}`);
      // When its worker is killed amid it, the next one starts what was to be started, and begins
      // again with what must be done.
      let isOver = !next.isRepeated;
      try {
        await next.run(worker);
        isOver = true;
      } finally {
        if (isOver) this.#end(next);
      }
    }
  }

  #end(operation: Operation): void {
    this.#operations.splice(this.#operations.indexOf(operation), 1);
    operation.done();
  }

  /** Whether messages wait. */
  get isBusy(): boolean {
    return this.#operations.length > 0;
  }

  /** Starts all queues. */
  start(done: () => void): void {
    this.#post("start", (worker) => this.#start(worker), done);
  }

  /** Lays out state blocks and starts the queues. */
  async #start(worker: VhostWorker, isRevived = false): Promise<void> {
    const world = this.#world;
    const { config } = world;
    must(this.started.length === 0, "started twice");
    const memory = this.#memory;
    const features = this.#features;
    this.#regionTable = this.#shared.allocHost(memory.tableBytes);
    memory.writeTo(this.#shared.view, this.#regionTable);
    const environment = {
      shared: this.#shared,
      memory,
      regions: { address: this.#regionTable, count: memory.regions.length },
      features,
      policy: config.policy,
      log: this.#dirty?.log,
    };
    const rings: RingStart[] = [];
    for (const [index, vring] of this.#vrings.entries()) {
      const setup = { ...vring.translate(memory, features), features };
      vring.inflightRegion = this.#recovery.region(index, setup);
      const { vq, position } = vring.layOut(environment);
      const base = vring.base(features);
      this.started.push({ index, setup, vq, saved: base, isTouched: false });
      const isKnown = !isRevived && this.#stopped.has(index);
      must(!isKnown || position === base, `queue ${index} was at ${base}, and is at ${position}`);
      world.say(`queue ${index} of ${setup.num} starts at ${position.toString(16)}`);
      rings.push({ index, vq, position, awaitsKick: config.awaitsKick });
    }
    this.#rings = rings;
    await worker.start(features, rings);
    if (config.awaitsKick) for (const { index } of rings) this.#wires.kick(index);
  }

  /** Stops all queues and, after some time, starts them where they were. */
  pause(): void {
    if (this.started.length === 0 || this.isBusy) return;
    const life = this.#life;
    this.#post("stop", async (worker) => {
      this.task.settle();
      const positions = await worker.stop();
      this.#stopped.clear();
      for (const { index, position } of positions) {
        this.#stopped.add(index);
        this.#vrings[index]?.setBase(position, this.#features);
      }
      if (this.started.length === 0) return; // a worker that was killed has left none
      this.#release();
      const ms = this.#world.random.pick([0, 0.1, 20]);
      this.#world.after(ms, "queues start again", () => {
        this.#post("start", async (next) => {
          if (life === this.#life) await this.#start(next);
        });
      });
    });
  }

  /** Takes a queue from the worker as it is, and has one go on with it that knows nothing of it. */
  move(): void {
    if (this.started.length === 0 || this.isBusy) return;
    const at = this.#world.random.below(this.started.length);
    this.#post("move a queue", async (worker) => {
      const ring = this.#rings[at];
      if (!ring || this.started.length === 0) return; // a worker that was killed has left none
      this.task.settle();
      const { awaitsKick } = await worker.takeQueue(ring.index);
      await worker.startQueue({ ...ring, awaitsKick, goesOn: !awaitsKick });
    });
  }

  /** Resets the device. `done`: no queue runs any more. */
  reset(done: () => void): void {
    const run = async (worker: VhostWorker) => {
      await worker.reset();
      this.#life++;
      this.#stopped.clear();
      this.#release();
      this.#recovery.forget();
      for (const vring of this.#vrings) vring.reset();
      this.#features = 0n;
      this.needsReset = false;
    };
    this.#post("reset", run, done, true);
  }

  /** A worker has begun with a ring. */
  onStart(vq: number): void {
    for (const ring of this.started) if (ring.vq === vq) ring.isTouched = true;
  }

  /** A new worker goes on where the killed one was. */
  async revive(worker: VhostWorker): Promise<void> {
    if (this.#operations.length > 0) this.#wires.doorbell.ringControl();
    if (this.started.length === 0) return;
    const bases = this.started.map((ring) =>
      ring.isTouched ? this.#recovery.base(ring) : ring.saved,
    );
    this.#release();
    if (bases.includes(undefined)) {
      this.#world.say("the device needs a reset");
      this.needsReset = true;
      return;
    }
    for (const [index, base] of bases.entries()) {
      this.#vrings[index]?.setBase(base as number, this.#features);
    }
    await this.#start(worker, true);
  }

  #release(): void {
    if (this.started.length === 0) return;
    this.task.forgetRings();
    for (const vring of this.#vrings) vring.release();
    this.#shared.host.free(this.#regionTable);
    this.started = [];
  }

  /** Ring errors that the worker met, by name. */
  errorCounts(): Record<string, number> {
    const all: Record<string, number> = {};
    for (const vring of this.#vrings) Object.assign(all, vring.errorCounts());
    return all;
  }
}
