import { TASK_WORDS_BYTES, Waker } from "#dist/kernel/wait.js";
import type { SharedMemory } from "#dist/memory/shared-memory.js";
import type { DeviceRing } from "#dist/ring/ring.js";
import { TASK_RUNNING } from "#dist/spec/sched.js";
import { Counters } from "#dist/vhost/counters.js";
import { VhostWorker } from "#dist/vhost/worker.js";
import { WorkerLoop } from "#dist/vhost/worker-loop.js";
import type { DeviceMaker } from "./device.js";
import { SimNotifier, SimTask } from "./notifier.js";
import type { Owner } from "./owner.js";
import type { Parts } from "./parts.js";
import { DeferringRing, simRings } from "./rings.js";
import type { Hearer, Wires } from "./wires.js";
import type { Actor, World } from "./world.js";

/** A worker that was killed is back after so long at most, in milliseconds. */
const DEAD_MS = 4;
/** What is completed later is so by so much at most, in milliseconds. */
const DEFER_MS = 3;
/** A pass that does nothing takes so long at most, in microseconds. */
const PASS_MICROSECONDS = 10;

interface Life {
  task: SimTask;
  waker: Waker;
  notifier: SimNotifier;
  worker: VhostWorker;
  loop: WorkerLoop;
}

/** The worker's thread: the loop of `vhostWorker`, a step at a time, which may end at any point. */
export class SimWorker implements Actor, Hearer {
  readonly name = "worker";
  readonly death = "workerDies";
  readonly counters = new Counters();
  readonly #world: World;
  readonly #wires: Wires;
  readonly #owner: Owner;
  readonly #shared: SharedMemory;
  readonly #device: DeviceMaker;
  readonly #parts: Parts;
  #life: Life | undefined;
  #state: "polling" | "to sleep" | "asleep" = "polling";
  #isWoken = false;
  #deferring: { ring: DeferringRing; queue: number }[] = [];
  #isDeferredDue = false;

  constructor(
    world: World,
    wires: Wires,
    owner: Owner,
    shared: SharedMemory,
    device: DeviceMaker,
    parts: Parts,
  ) {
    this.#world = world;
    this.#wires = wires;
    this.#owner = owner;
    this.#shared = shared;
    this.#device = device;
    this.#parts = parts;
    wires.hearer = this;
    owner.task = this;
  }

  /** Makes it, and lets it go on where the one before was. */
  async boot(): Promise<void> {
    const world = this.#world;
    const words = new SharedArrayBuffer(TASK_WORDS_BYTES);
    const made = new SimNotifier(world, this.#wires);
    const notifier = this.#parts.notifier?.(made) ?? made;
    const { memory } = this.#shared;
    const { workerRing, pollMs } = world.config;
    const setup = {
      memory,
      doorbell: this.#wires.doorbell.buffer,
      counters: this.counters.buffer,
      ringKind: workerRing,
      pollMicroseconds: pollMs * 1000,
    };
    const now = () => world.now;
    const rings = simRings(memory, workerRing, {
      world,
      actor: this,
      parts: this.#parts,
      onStart: (vq) => this.#owner.onStart(vq),
      defer: (ring) => this.#defer(ring),
    });
    const fresh = new VhostWorker(setup, notifier, { now, rings });
    const worker = this.#parts.worker?.(fresh) ?? fresh;
    const life = {
      task: new SimTask(words),
      waker: new Waker(words, () => {
        this.#isWoken = true;
      }),
      notifier,
      worker,
      loop: new WorkerLoop(worker, pollMs, now),
    };
    this.#wires.doorbell.takeKicks(); // those of a dead worker vanish
    this.#wires.lostKicks = 0;
    this.#state = "polling";
    this.#isDeferredDue = false;
    await worker.attach(new URL("device.js", import.meta.url).href, this.#device, []);
    await this.#owner.revive(worker);
    life.loop.begin();
    this.#life = life;
  }

  /** Where completions may come in any order, they do. */
  #defer(ring: DeviceRing): DeviceRing {
    if (!this.#device.isOutOfOrder()) return ring;
    const { random } = this.#world;
    const queue = this.#owner.started.findIndex(({ vq }) => vq === ring.vq);
    const deferring = new DeferringRing(ring, this.#shared.memory, this.#world, () => {
      this.#world.after(random.below(DEFER_MS * 1000) / 1000, "I/O is done", () => {
        this.#isDeferredDue = true;
        this.wake();
      });
    });
    this.#deferring.push({ ring: deferring, queue });
    return deferring.ring;
  }

  get isAlive(): boolean {
    return this.#life !== undefined;
  }

  /** Whether it sleeps, and nothing has woken it. */
  get isAsleep(): boolean {
    return this.isAlive && this.#state === "asleep" && !this.#isReadyToWake();
  }

  awaitsKick(queue: number): boolean {
    return this.#life?.notifier.awaitsKick(queue) ?? this.#world.config.awaitsKick;
  }

  fdReady(): void {
    if (this.#life?.notifier.isFdReady) this.#isWoken = true;
  }

  wake(): void {
    this.#life?.waker.wake();
  }

  #isReadyToWake(): boolean {
    return this.#isWoken || this.#world.now >= this.wakesAt;
  }

  get wakesAt(): number {
    const isAsleep = this.#state === "asleep";
    return (isAsleep && this.#life?.notifier.sleepsUntil) || Number.POSITIVE_INFINITY;
  }

  isReady(isNested: boolean): boolean {
    if (!this.#life) return false;
    if (isNested && this.#wires.doorbell.isControlPending()) return false;
    return this.#state !== "asleep" || this.#isReadyToWake();
  }

  step(): void | Promise<void> {
    const { loop, task, notifier, worker } = this.#life as Life;
    this.#world.pass(PASS_MICROSECONDS);
    if (this.#state === "asleep") {
      this.#world.say("worker wakes");
      notifier.wake();
      this.#awake();
      return;
    }
    if (this.#wires.doorbell.takeControl()) {
      loop.begin();
      this.#state = "polling";
      return this.#owner.serve(worker);
    }
    if (this.#isDeferredDue) this.settle();
    if (this.#state === "polling") {
      if (!loop.poll()) this.#state = "to sleep";
      return;
    }
    this.#isWoken = false;
    const sleepMs = loop.prepareToSleep(task, this.#wires.doorbell);
    if (sleepMs > 0) notifier.sleep(task, sleepMs);
    if (notifier.sleepsUntil === undefined) this.#awake();
    else {
      this.#world.say("worker sleeps");
      this.#state = "asleep";
      // A wake-up before the sleep is none, but in an eventfd.
      if (this.#world.config.notifier === "doorbell") this.#isWoken = false;
      this.fdReady();
    }
  }

  #awake(): void {
    this.#wires.lostKicks = 0;
    this.#isWoken = false;
    this.#life?.task.setState(TASK_RUNNING);
    this.#life?.loop.begin();
    this.#state = "polling";
  }

  settle(): void {
    this.#isDeferredDue = false;
    for (const { ring, queue } of this.#deferring) if (ring.flush()) this.#wires.call(queue);
  }

  forgetRings(): void {
    this.#deferring = [];
  }

  /** Whether it completes something later still. */
  get hasDeferred(): boolean {
    return this.#isDeferredDue;
  }

  died(): void {
    this.#life = undefined;
    this.#deferring = [];
    const ms = this.#world.random.below(DEAD_MS * 1000) / 1000;
    this.#world.after(ms, "a new worker", () => this.boot(), true);
  }
}
