import { blkFeatures } from "#dist/devices/blk-config.js";
import { Completions } from "#dist/driver/completions.js";
import { Queue } from "#dist/driver/queue.js";
import type { QueueAddresses, Transport } from "#dist/driver/transport.js";
import type { SharedMemory } from "#dist/memory/shared-memory.js";
import { VhostError } from "#dist/spec/errno.js";
import { chooseRings, type RingConfig } from "./config.js";
import { moveTo, setIndex, usedArea } from "./driver-ring.js";
import type { Owner } from "./owner.js";
import type { Parts } from "./parts.js";
import type { Requests } from "./requests.js";
import { simRings } from "./rings.js";
import type { Wires } from "./wires.js";
import { type Actor, Killed, must, type World } from "./world.js";

/** Requests that a queue has at most beyond what its ring holds. */
const BACKLOG_MAX = 4;
/** Requests of a queue at most. */
const OPEN_MAX = 20;
/** A driver that died is back after so long at most, in milliseconds. */
const DEAD_MS = 3;

/** An index that is wrong is right again after so long at most, in milliseconds. */
const SPOILT_MS = 30;

const GONE = new VhostError("ENODEV", "the driver is gone");

/** One driver, from when it comes to when it goes. */
interface Life {
  rings: RingConfig;
  queues: Queue[];
  /** Addresses of their state blocks. */
  vqs: number[];
  completions: Completions;
  looks: "no" | "yes" | "asleep";
  /** The sequence of calls as it was before the last look. */
  seen: number;
  sleepsUntil: number;
  /** It was killed. */
  isDead: boolean;
  /** By queue: when its index was last right again; Infinity while it is wrong. */
  rightAt: number[];
}

/** The driver's thread: the product's queues, and a program that sends requests. */
export class SimDriver implements Actor {
  readonly name = "driver";
  readonly #world: World;
  readonly #wires: Wires;
  readonly #owner: Owner;
  readonly #shared: SharedMemory;
  readonly #requests: Requests;
  readonly #parts: Parts;
  /** What it negotiated, each time that it came. */
  readonly allRings: RingConfig[] = [];
  /** Promises of requests that are neither kept nor broken. */
  unsettledCount = 0;
  #life: Life | undefined;
  #state: "absent" | "starting" | "live" | "going" = "absent";
  #nextAt = 0;
  /** It sends nothing by itself. */
  isQuiet = false;
  /** It went by itself, and nobody comes. */
  #isLast = false;

  constructor(
    world: World,
    wires: Wires,
    owner: Owner,
    shared: SharedMemory,
    requests: Requests,
    parts: Parts,
  ) {
    this.#world = world;
    this.#wires = wires;
    this.#owner = owner;
    this.#shared = shared;
    this.#requests = requests;
    this.#parts = parts;
  }

  get death(): "driverDies" | undefined {
    return this.isLive ? "driverDies" : undefined;
  }

  get isLive(): boolean {
    return this.#state === "live";
  }

  get isAbsent(): boolean {
    return this.#state === "absent";
  }

  /** Whether nothing is in flight, and it has noticed. */
  get isIdle(): boolean {
    return this.isLive && this.#life?.looks === "no" && this.#requests.openCount === 0;
  }

  /** Its rings, while there are some. */
  get rings(): RingConfig | undefined {
    return this.#life?.rings;
  }

  /** Its queues. */
  get queues(): readonly Queue[] {
    return this.#life?.queues ?? [];
  }

  /** Addresses of its queues' state blocks. */
  get vqs(): readonly number[] {
    return this.#life?.vqs ?? [];
  }

  /** Lays its queues out, and starts the device. */
  come(): void {
    const world = this.#world;
    const rings = chooseRings(world.random, world.config);
    this.allRings.push(rings);
    const features = rings.features | blkFeatures(false, world.config.queueCount);
    const { isPacked, isInOrder, nums, positions } = rings;
    const kind = `${isPacked ? "packed" : "split"}${isInOrder ? ", in order" : ""}`;
    world.say(`a driver: ${kind}, features ${rings.features.toString(16)}, sizes ${nums}`);
    this.#owner.setFeatures(features);
    this.#requests.isInOrder = isInOrder;
    const vqs: number[] = [];
    const transport = this.#transport(rings, vqs, () => life.isDead);
    const completions = new Completions(transport, () => world.now);
    const life: Life = {
      rings,
      queues: [],
      vqs,
      completions,
      looks: "no",
      seen: 0,
      sleepsUntil: 0,
      isDead: false,
      rightAt: nums.map(() => 0),
    };
    const onSubmit = () => {
      if (life.looks !== "no") return;
      life.looks = "yes";
      completions.begin();
    };
    this.#life = life;
    for (const [index, num] of nums.entries()) {
      const queue = new Queue(transport, index, num, features, onSubmit);
      life.queues.push(queue);
      if (!isPacked) moveTo(this.#shared, vqs[index] as number, positions[index] as number);
      completions.add(queue);
    }
    this.#state = "starting";
    this.#owner.start(() => {
      this.#state = "live";
    });
  }

  #transport({ positions }: RingConfig, vqs: number[], isDead: () => boolean): Transport {
    const world = this.#world;
    const wrapping = { world, actor: this, parts: this.#parts, isDead };
    const rings = simRings(this.#shared.memory, world.config.driverRing, wrapping);
    const transport: Partial<Transport> = {
      shared: this.#shared,
      isInline: world.config.isInline,
      setupQueue: (index: number, at: QueueAddresses) => {
        this.#owner.setupQueue(index, at, positions[index] as number);
      },
      driverRing: (vq: number) => {
        vqs.push(vq);
        return rings.driver(vq);
      },
      kick: (index: number) => this.#wires.kick(index, () => world.between(this)),
      callSequence: () => this.#wires.doorbell.callSequence(),
    };
    return transport as Transport;
  }

  /** Whether it sleeps, and nothing has woken it. */
  get isAsleep(): boolean {
    return this.isLive && this.#life?.looks === "asleep" && !this.#isWoken;
  }

  get #isWoken(): boolean {
    const { seen, sleepsUntil } = this.#life as Life;
    return this.#wires.doorbell.callSequence() !== seen || this.#world.now >= sleepsUntil;
  }

  get wakesAt(): number {
    if (!this.isLive || !this.#life) return Number.POSITIVE_INFINITY;
    const isAsleep = this.#life.looks === "asleep";
    const wakes = isAsleep ? this.#life.sleepsUntil : Number.POSITIVE_INFINITY;
    return Math.min(wakes, this.isQuiet || this.#isFull ? wakes : this.#nextAt);
  }

  get #isFull(): boolean {
    return this.queues.every((queue) => this.#room(queue) <= 0);
  }

  #room({ inFlight, num }: Queue): number {
    return Math.min(num + BACKLOG_MAX, OPEN_MAX) - inFlight;
  }

  #choices(): (() => void)[] {
    const life = this.#life as Life;
    const choices: (() => void)[] = [];
    const isDue = this.#world.now >= this.#nextAt;
    if (!this.isQuiet && isDue && !this.#isFull) choices.push(() => this.#sendSome(life));
    if (life.looks === "yes") choices.push(() => this.#look(life));
    if (life.looks === "asleep" && this.#isWoken) choices.push(() => this.#wake(life));
    return choices;
  }

  isReady(): boolean {
    return this.isLive && this.#choices().length > 0;
  }

  step(): void {
    this.#world.pass(5);
    this.#world.random.pick(this.#choices())();
  }

  /** A step of `Completions.#run`. */
  #look(life: Life): void {
    life.seen = this.#wires.doorbell.callSequence();
    if (life.completions.look()) {
      life.looks = "asleep";
      const { driverSleepMs } = this.#world.config;
      life.sleepsUntil = this.#world.now + driverSleepMs;
      this.#world.say("driver sleeps");
    } else if (!life.completions.hasInFlight) life.looks = "no";
  }

  #wake(life: Life): void {
    this.#world.say("driver wakes");
    this.#wires.lostCalls = 0;
    life.completions.wake();
    life.looks = life.completions.hasInFlight ? "yes" : "no";
  }

  #sendSome({ queues }: Life): void {
    const { random, config, now } = this.#world;
    this.#nextAt = now + random.below(config.thinkMs * 1000 + 1) / 1000;
    const queue = random.pick(queues);
    const count = random.pick([1, 1, 2, 5, 16]);
    for (let i = 0; this.isLive && i < count && this.#room(queue) > 0; i++) this.send(queue);
  }

  /** Sends a request on a queue. */
  send(queue: Queue): void {
    const request = this.#requests.make(queue.index, queue.num);
    const { readable, writable, buffer } = request.memory;
    this.#world.say(`${request.name}on queue ${queue.index}`);
    const life = this.#life as Life;
    const used = usedArea(this.#shared, life.vqs[queue.index] as number);
    this.unsettledCount++;
    queue.submit(readable, writable, buffer).then(
      (usedBytes) => {
        this.unsettledCount--;
        if (life !== this.#life) return; // lost meanwhile, and so it stays
        try {
          this.#requests.complete(request, usedBytes, used);
          this.#world.say(`request ${request.id} is done`);
        } catch (error) {
          this.#world.failure ??= error;
        }
      },
      (error) => {
        this.unsettledCount--;
        const isOver = !(life === this.#life && this.isLive);
        const isMeant = error === GONE || error instanceof Killed;
        if (!isOver || !isMeant) this.#world.failure ??= error;
      },
    );
  }

  /** The available index of a split ring says for a while what can't be. */
  spoilIndex(): void {
    const { random } = this.#world;
    const life = this.#life as Life;
    const index = random.below(life.queues.length);
    const { num } = life.queues[index] as Queue;
    const vq = life.vqs[index] as number;
    if (life.rings.isPacked || life.rightAt[index] === Number.POSITIVE_INFINITY) return;
    life.rightAt[index] = Number.POSITIVE_INFINITY;
    const ahead = random.between(num + 1, 0xffff - num);
    this.#world.say(`the index of queue ${index} is wrong by ${ahead}`);
    setIndex(this.#shared, vq, ahead);
    if (random.once(2)) this.#wires.kick(index);
    const ms = random.below(SPOILT_MS * 1000) / 1000;
    if (random.once(2)) this.#nextAt = this.#world.now + ms; // what it sends puts it right
    this.#world.after(ms, "the index is right again", () => {
      if (life !== this.#life) return;
      life.rightAt[index] = this.#world.now;
      if (!life.isDead) setIndex(this.#shared, vq, 0);
      if (!life.isDead && random.once(2)) this.#wires.kick(index);
    });
  }

  /** When the index of a queue was last right again; Infinity: it is wrong. */
  rightAt(index: number): number {
    return this.#life?.rightAt[index] ?? 0;
  }

  /** Resets the device; `isLast`: no driver comes after it. */
  reset(isLast = false): void {
    must(this.isLive, "a driver that is not there is reset");
    this.#world.say("the driver resets the device");
    this.#state = "going";
    this.#isLast = isLast;
    for (const queue of this.queues) queue.close(GONE);
    this.#owner.reset(() => this.#gone());
  }

  died(): void {
    (this.#life as Life).isDead = true;
    this.#state = "going";
    const { random } = this.#world;
    this.#world.after(
      random.below(DEAD_MS * 1000) / 1000,
      "a driver comes, and resets the device",
      () => this.#owner.reset(() => this.#gone()),
      true,
    );
  }

  /** The device is reset: its memory is free, and what was in flight is lost. */
  #gone(): void {
    for (const queue of this.queues) {
      queue.fail(GONE);
      queue.release();
    }
    this.#life = undefined;
    this.#state = "absent";
    this.#wires.lostCalls = 0;
    this.#requests.abandonAll();
    if (this.#isLast) return;
    const ms = this.#world.random.pick([0, 0.2, 5]);
    this.#world.after(ms, "a driver comes", () => this.come(), true);
  }
}
