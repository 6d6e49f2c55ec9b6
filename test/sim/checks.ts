// What must hold between two steps, and when nothing is going on.

import type { SharedMemory } from "#dist/memory/shared-memory.js";
import { RingTables, vringErrorName } from "#dist/ring/tables.js";
import * as s from "#dist/spec/ring-state.js";
import type { DirtyPages } from "./dirty-log.js";
import type { FaultyBackend } from "./disk.js";
import type { SimDriver } from "./driver.js";
import type { Owner } from "./owner.js";
import type { Recovery } from "./recovery.js";
import type { Requests } from "./requests.js";
import type { Wires } from "./wires.js";
import type { SimWorker } from "./worker.js";
import { must, type World } from "./world.js";

/** All that there is in a simulation. */
export interface Cast {
  world: World;
  shared: SharedMemory;
  wires: Wires;
  owner: Owner;
  worker: SimWorker;
  driver: SimDriver;
  requests: Requests;
  recovery: Recovery;
  backend: FaultyBackend;
  dirty: DirtyPages | undefined;
}

/** A word of a state block. */
const word = ({ shared }: Cast, vq: number, at: number) => shared.view.getUint32(vq + at, true);

/** Both state blocks of each queue that runs; none while the driver is not there. */
function pairs({ owner, driver }: Cast): { index: number; ours: number; theirs: number }[] {
  if (!driver.isLive) return [];
  const touched = owner.started.filter(({ isTouched }) => isTouched);
  return touched.map(({ index, vq }) => ({
    index,
    ours: vq,
    theirs: driver.vqs[index] as number,
  }));
}

/**
 * So long, in milliseconds, a ring may stay refused once it is right again: the worker looks at it
 * every 10 ms, twice when it was woken for something else just before.
 */
const REFUSED_MS_MAX = 22;

/** No wake-up was lost: nobody sleeps while there is something for him, unless a fault did that. */
export function checkAwake(cast: Cast): void {
  const { wires, worker, driver, world } = cast;
  for (const { index, ours, theirs } of pairs(cast)) {
    const bit = 1 << index;
    const available = word(cast, theirs, s.VQ_AVAIL_PUBLISHED);
    const isPending = available !== word(cast, ours, s.VQ_LAST_AVAIL);
    const wasWrong = world.now - driver.rightAt(index) < REFUSED_MS_MAX;
    const isRefused = word(cast, ours, s.VQ_ERROR) !== 0 && wasWrong;
    const mayLag = wires.lostKicks & bit || wires.lateKicks[index] || isRefused;
    if (worker.isAsleep && isPending && !mayLag && world.config.notifier !== "kickless") {
      must(false, `a lost wake-up: the worker sleeps, and queue ${index} has entries for it`);
    }
    const used = word(cast, ours, s.VQ_USED_PUBLISHED);
    const isUsed = used !== word(cast, theirs, s.VQ_LAST_USED);
    const mayWait = wires.lostCalls & bit || wires.lateCalls > 0 || !worker.isAlive;
    if (driver.isAsleep && isUsed && !mayWait) {
      must(false, `a lost wake-up: the driver sleeps, and queue ${index} has used entries`);
    }
  }
}

/** Nothing is to be done, by anybody. */
export function isIdle({ world, owner, worker, driver }: Cast): boolean {
  return driver.isIdle && worker.isAsleep && !owner.isBusy && world.eventCount === 0;
}

/** When nothing is going on, both sides of each ring agree, and nothing is in flight. */
export function checkIdle(cast: Cast): void {
  const { owner, driver, requests, recovery } = cast;
  must(owner.started.length === driver.queues.length, "a queue does not run");
  must(requests.openCount === 0, "requests are open");
  for (const { index, ours, theirs } of pairs(cast)) {
    const same = (what: string, a: number, b: number) =>
      must(word(cast, ours, a) === word(cast, theirs, b), `queue ${index}: ${what} differ`);
    same("available positions", s.VQ_LAST_AVAIL, s.VQ_AVAIL_PUBLISHED);
    same("used positions", s.VQ_USED_PUBLISHED, s.VQ_LAST_USED);
    same("in flight", s.VQ_IN_FLIGHT, s.VQ_IN_FLIGHT);
    must(word(cast, ours, s.VQ_IN_FLIGHT) === 0, `queue ${index}: something is in flight`);
    must(driver.queues[index]?.inFlight === 0, `queue ${index}: something waits`);
    const staged = word(cast, ours, s.VQ_USED_NEXT) !== word(cast, ours, s.VQ_USED_PUBLISHED);
    must(!staged, `queue ${index}: something is staged`);
  }
  for (const ring of owner.started) recovery.checkIdle(ring);
}

const WRONG_INDEX = vringErrorName(s.VRING_E_AVAIL_INDEX);

/** No ring met an error but a fault's, and every failure of the disk was counted. */
export function checkErrors({ world, shared, owner, driver, worker, backend }: Cast): void {
  const none = (who: string, counts: Record<string, number>) =>
    must(Object.keys(counts).length === 0, `${who} met ${JSON.stringify(counts)}`);
  const { [WRONG_INDEX]: wrong = 0, ...others } = owner.errorCounts();
  none("the worker", others);
  must(wrong === 0 || world.faults.indexWrong > 0, `the worker met ${wrong} times ${WRONG_INDEX}`);
  for (const vq of driver.vqs) none("the driver", new RingTables(shared.memory, vq).errorCounts());
  const { failures } = worker.counters.total();
  must(failures === backend.failures, `${failures} of ${backend.failures} failures were counted`);
}
