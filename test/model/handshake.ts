// The handshake that keeps wake-ups from being lost, step by step as the product does it: one side
// publishes, then asks whether to notify; the other asks to be notified, looks again, then sleeps.
//
// steps here                split ring (assembly/…)          packed ring (assembly/…)
// ────────────────────────  ───────────────────────────────  ───────────────────────────────────
// addBufs                   split-driver.ts addBufs          packed-add.ts packedAddBufs
// publish            A1 A2  split-driver.ts driverPublish    packed-driver.ts packedDriverPublish
// kickNeeded            A2  split-driver.ts kickNeeded       packed-driver.ts packedKickNeeded
// availLen           A1     split-device.ts availLen         packed-device.ts packedAvailLen
// getDescs           A1     split-device.ts nextHead         packed-device.ts packedGetDescs
// enableKick            A2  split-device.ts enableKick       packed-device.ts packedEnableKick
// disableKick               split-device.ts disableKick      packed-device.ts packedDisableKick
// addUsedN                  split-device.ts addUsedN         packed-used.ts packedAddUsedN
// devicePublish      U1 U2  split-device.ts devicePublish    packed-used.ts packedDevicePublish
// callNeeded            U2  split-device.ts callNeeded       packed-used.ts packedCallNeeded
// getBufs            U1     split-driver.ts getBufs          packed-driver.ts packedGetBufs
// enableCall            U2  split-driver.ts enableCall       packed-driver.ts packedEnableCall
// disableCall               split-driver.ts disableCall      packed-driver.ts packedDisableCall
//
// (The twins in src/ring/ts-….ts do the same accesses in the same order; A2 and U2 are called E2
// and E1 there.)
//
//   steps here                 the product (src/…)
//   ─────────────────────────  ────────────────────────────────────────────────────────────────────
//   submit (driver)            driver/queue.ts Queue.#flush: addBufs, publish, kickNeeded, kick
//   Doorbell.kick              vhost/notify.ts kick, called by vhost/worker-handle.ts kick
//   wake                S1 S2  kernel/wait.ts Waker.wake: bump WAKE, read STATE, notify, alsoWake
//   vhostTaskStop       S1     kernel/vhost-task.ts stop: sets the bit in FLAGS, then wakes
//   run (driver)               driver/completions.ts #run, look: callSequence, poll, waitCall
//   waitCall                   vhost/notify.ts waitCall: Atomics.waitAsync of CALL_SEQUENCE
//   pass (worker)              vhost/worker.ts runWorkList: takeKicks, hasWork, begin, handleKick
//   drain (worker)             vhost/virtqueue.ts drain: getDescs, addUsedN, signal, availLen
//   Doorbell.call              vhost/notify.ts call: bump CALL_SEQUENCE, notify (CALLS: not read)
//   idle (worker)              vhost/worker-loop.ts poll: goes on polling, or not, at any moment
//   setState            S1 S2  kernel/task-thread.ts setState: read WAKE, store STATE
//   park (worker)              vhost/worker-loop.ts prepareToSleep, vhost/worker.ts: sleep
//   hasKicks                   vhost/notify.ts hasKicks, called by vhost/worker.ts enableKicks
//   schedule            S2     kernel/task-thread.ts schedule: Atomics.wait of WAKE
//   scheduleBy          S2     task-thread.ts scheduleBy, vhost-user/eventfd-notifier.ts #poll
//   takeKicks (eventfd)        vhost-user/eventfd-notifier.ts takeKicks: if a ring awaits one
//   eventfd of a driver        not ours: a driver that waits for its call as Linux's does
//
// Left out, because nothing depends on the value: `begin`'s availLen, the CALLS bits, a second
// store of the same STATE, a third look at an index that has moved. CONTROL (`ringControl`,
// `isControlPending`) is set and looked at where FLAGS is. Timeouts (10 ms, 1 s) count as sleepers
// that wake by themselves: nothing rests on them. Not modelled: a device that leaves entries in the
// ring, refusals, several queues, IN_ORDER, chains of several descriptors.

import { explore, type Verdict } from "./checker.js";
import { driverOf } from "./driver.js";
import { Machine } from "./machine.js";
import { PackedSteps } from "./packed-steps.js";
import type { Program, Registers } from "./program.js";
import { type Flaw, type Handshake, RUNNING } from "./rings.js";
import { SplitSteps } from "./split-steps.js";
import { workerOf } from "./worker.js";

/** Explores a model. */
export function check(handshake: Handshake): Verdict {
  const has = (flaw: Flaw) => handshake.flaws.includes(flaw);
  const { num, eventIdx, ring } = handshake;
  const shape = { num, eventIdx, has };
  const ringSteps = ring === "split" ? new SplitSteps(shape) : new PackedSteps(shape);
  const parts = { ...handshake, ringSteps, has };
  const programs = [driverOf(parts), workerOf(parts)] as unknown as Program<Registers>[];
  const words =
    handshake.notifier === "doorbell"
      ? { KICKS: 0, CALL_SEQUENCE: 0 }
      : { kickFd: 0, callFd: 0, wakeFd: 0 };
  const memory = { ...ringSteps.memory, WAKE: 0, STATE: RUNNING, FLAGS: 0, ...words };
  const show = ring === "packed" ? PackedSteps.show : undefined;
  const weak = new Set([...ringSteps.plain, ...handshake.flaws.flatMap(weakened)]);
  const machine = new Machine(programs, memory, weak, true, show);
  return explore(machine, (state) => {
    const isEnd = (index: number) => machine.step(state, index).kind === "end";
    return isEnd(0) && (!handshake.stops || isEnd(1));
  });
}

/** The places that a flaw makes weak, of either ring. */
function weakened(flaw: Flaw): string[] {
  const side = flaw[0];
  if (/^S2: STATE is (stored late|read early)/.test(flaw)) return ["STATE"];
  if (/^[AU]2: the wish/.test(flaw)) {
    return side === "A"
      ? ["avail_event", "used.flags", "device event"]
      : ["used_event", "avail.flags", "driver event"];
  }
  if (/^[AU]2: /.test(flaw)) return side === "A" ? ["avail.idx"] : ["used.idx"];
  return [];
}
