// One run from one seed: first with faults, then without until nothing is going on any more.

import { setImmediate as nextTurn } from "node:timers/promises";
import { Random } from "#dist/fuzz/random.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import { type Cast, checkAwake, checkErrors, checkIdle, isIdle } from "./checks.js";
import { chooseConfig, type Faults, type RingConfig, type SimConfig } from "./config.js";
import { DirtyPages } from "./dirty-log.js";
import { FaultyBackend } from "./disk.js";
import { SimDriver } from "./driver.js";
import { Owner, QUEUE_SIZE_MAX } from "./owner.js";
import type { Parts } from "./parts.js";
import { InflightRecovery, RedoRecovery } from "./recovery.js";
import { Requests } from "./requests.js";
import { Trace } from "./trace.js";
import { Wires } from "./wires.js";
import { SimWorker } from "./worker.js";
import { must, Violation, World } from "./world.js";

/** Steps with faults, unless it is said. */
export const STEPS_DEFAULT = 400;
/** When faults are over, everything is done within so many simulated milliseconds. */
const QUIET_MS_MAX = 2500;
/** And within so many steps. */
const QUIET_STEPS_MAX = 100_000;
/** Ticks of the microtask queue that the longest chain of promises takes. */
const TICKS = 8;
/** Of so many steps, the dirty log is looked at after one. */
const LOG_TAKEN_ONCE_IN = 30;
const MEMORY_PAGES = 256;

/** How to run it. */
export interface SimOptions {
  steps?: number;
  /** Gets every line of the trace. */
  print?: (line: string) => void;
  /** Mutants. */
  parts?: Parts;
  /** What of the configuration is not for the seed to choose. */
  config?: Partial<SimConfig>;
}

/** What came of it. */
export interface SimResult {
  seed: number;
  steps: number;
  /** Of the trace. */
  hash: string;
  simulatedMs: number;
  /** Requests sent, completed, lost with a reset. */
  sent: number;
  completed: number;
  lost: number;
  /** How often each fault happened. */
  faults: Faults;
  config: SimConfig;
  /** What each driver negotiated. */
  rings: readonly RingConfig[];
  /** What should have held, and did not. */
  failure?: string;
  /** The last lines of the trace. */
  last: string[];
}

/** Memory of a run that ended well, for the next one. */
let spare: SharedMemory | undefined;

function takeMemory(): SharedMemory {
  const size = { initial: MEMORY_PAGES, maximum: MEMORY_PAGES, shared: true };
  const taken = spare ?? SharedMemory.of(new WebAssembly.Memory(size));
  spare = undefined;
  return taken;
}

function makeCast(world: World, shared: SharedMemory, parts: Parts): Cast {
  const { config } = world;
  const dirty = config.hasLog ? new DirtyPages(shared) : undefined;
  const requests = new Requests(shared, world, dirty);
  const backend = new FaultyBackend(requests.disk.bytes, shared.memory, world, requests);
  const isOutOfOrder = () => config.isOutOfOrder && driver.rings?.isInOrder === false;
  const made =
    config.recovery === "redo"
      ? new RedoRecovery(shared, () => !isOutOfOrder())
      : new InflightRecovery(shared);
  const recovery = parts.recovery?.(made) ?? made;
  const wires = new Wires(world);
  const owner = new Owner(world, wires, shared, recovery, dirty);
  const { queueCount } = config;
  const device = { backend, queueCount, queueSizeMax: QUEUE_SIZE_MAX, isOutOfOrder };
  const worker = new SimWorker(world, wires, owner, shared, device, parts);
  const driver = new SimDriver(world, wires, owner, shared, requests, parts);
  backend.actor = worker;
  world.actors.push(worker, driver);
  return { world, shared, wires, owner, worker, driver, requests, recovery, backend, dirty };
}

class Simulation {
  readonly #cast: Cast;
  /** Steps so far. */
  steps = 0;

  constructor(cast: Cast) {
    this.#cast = cast;
  }

  /** One step of somebody, or nothing but time. False: nothing will ever happen. */
  async #tick(): Promise<boolean> {
    const { world } = this.#cast;
    this.steps++;
    if (!(await world.runDue())) {
      const ready = world.actors.filter((actor) => actor.isReady(false));
      if (ready.length > 0) await world.step(world.random.pick(ready));
      else if (world.nextAt === Number.POSITIVE_INFINITY) return false;
      else world.now = Math.max(world.now, world.nextAt);
    }
    for (let i = 0; i < TICKS; i++) await undefined;
    if (world.failure) throw world.failure;
    checkAwake(this.#cast);
    return true;
  }

  /** Faults that are nobody's step. */
  #strike(): void {
    const { world, driver, owner, worker, wires, dirty } = this.#cast;
    const mayLie = world.config.policy === "strict"; // Linux goes on up to what is said
    if (driver.isLive && (owner.needsReset || world.fault("reset"))) driver.reset();
    if (world.fault("stop")) owner.pause();
    if (world.fault("move")) owner.move();
    if (world.random.once(LOG_TAKEN_ONCE_IN)) dirty?.take(world.now);
    if (driver.isLive && mayLie && world.fault("indexWrong")) driver.spoilIndex();
    if (worker.isAlive && world.fault("spurious")) wires.spurious(world.config.queueCount);
  }

  /** Until nothing is going on any more. */
  async #settle(what: string): Promise<void> {
    const { world, driver, owner } = this.#cast;
    world.say(what);
    const until = world.now + QUIET_MS_MAX;
    const stepsMax = this.steps + QUIET_STEPS_MAX;
    while (!isIdle(this.#cast)) {
      if (driver.isLive && owner.needsReset) driver.reset();
      const goesOn = await this.#tick();
      must(goesOn, `${what}: nothing goes on, and something is to be done`);
      must(world.now <= until, `${what}: something is to be done after ${QUIET_MS_MAX} ms`);
      must(this.steps < stepsMax, `${what}: no end after ${QUIET_STEPS_MAX} steps`);
    }
    checkIdle(this.#cast);
    checkErrors(this.#cast);
  }

  /** All of it. Throws a `Violation`, or what the product throws. */
  async run(faultySteps: number): Promise<void> {
    const { world, worker, driver, requests } = this.#cast;
    await worker.boot();
    driver.come();
    while (this.steps < faultySteps && (await this.#tick())) this.#strike();
    world.isFaulty = false;
    driver.isQuiet = true;
    await this.#settle("faults are over");
    for (const queue of driver.queues) driver.send(queue);
    await this.#settle("one more on each queue");
    driver.reset(true);
    while (!driver.isAbsent) must(await this.#tick(), "the last reset is not done");
    await nextTurn(); // those who asked are told by microtasks
    must(driver.unsettledCount === 0, "a promise of a request is neither kept nor broken");
    requests.checkEnd();
    checkErrors(this.#cast);
    this.#cast.dirty?.release();
  }
}

/** Runs the simulation of a seed, a u32. */
export async function simulate(seed: number, options: SimOptions = {}): Promise<SimResult> {
  const random = new Random(seed);
  const config = { ...chooseConfig(random), ...options.config };
  const trace = new Trace(options.print);
  const shared = takeMemory();
  const free = () => [shared.host.freeBytes, shared.guest.freeBytes].join(" and ");
  const before = free();
  const cast = makeCast(new World(random, trace, config), shared, options.parts ?? {});
  const simulation = new Simulation(cast);
  let failure: string | undefined;
  try {
    await simulation.run(options.steps ?? STEPS_DEFAULT);
    must(before === free(), `bytes of host and guest: ${before} before, ${free()} after`);
    spare = shared;
  } catch (error) {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    failure = error instanceof Violation ? error.message : `an exception: ${stack}`;
  }
  const { sent, completed, lost } = cast.requests;
  return {
    seed,
    steps: simulation.steps,
    hash: trace.hash,
    simulatedMs: cast.world.now,
    sent,
    completed,
    lost,
    faults: cast.world.faults,
    config,
    rings: cast.driver.allRings,
    ...(failure !== undefined && { failure }),
    last: trace.last,
  };
}
