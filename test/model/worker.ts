// The worker's thread. The table in handshake.ts says which function of the product each step is.

import { Program, SC } from "./program.js";
import { bumped, INTERRUPTIBLE, type Parts, RUNNING, type Worker } from "./rings.js";

/** The worker's thread. */
export function workerOf(parts: Parts): Worker {
  const { ringSteps: ring } = parts;
  const p: Worker = new Program("worker", {
    last: 0,
    available: 0,
    used: 0,
    published: 0,
    signalled: 0,
    isDecided: 0,
    value: 0,
    isNeeded: 0,
    isBusy: 0,
    isStarted: Number(!parts.awaitsKick),
    isDue: 0,
    isUnfinished: 0,
    kicks: 0,
    seen: 0,
  });
  p.label("pass");
  if (parts.stops) shouldStop(p);
  takeKicks(p, parts);
  p.jump("running", (r) => r.isStarted === 1);
  p.jump("idle", (r) => r.isDue === 0);
  ring.start(p);
  p.run((r) => {
    r.isStarted = 1;
  });
  p.label("running");
  ring.availLen(p); // hasWork
  p.jump("idle", (r) => r.isDue === 0 && r.isUnfinished === 0);
  p.run((r) => {
    r.isDue = r.isUnfinished = 0;
  });
  ring.disableKick(p); // begin
  p.label("drain");
  ring.getDescs(p);
  p.jump("signalled", (r) => r.used === r.last);
  p.label("use");
  ring.addUsed(p);
  p.jump("use", (r) => r.used < r.last);
  signal(p, parts);
  p.label("signalled");
  ring.availLen(p);
  p.jump("pass", (r) => r.isDue === 0);
  p.run((r) => {
    r.isDue = 0;
  });
  p.choose("drain");
  p.run((r) => {
    r.isUnfinished = 1; // a limit was reached
  });
  p.jump("pass");
  p.label("idle");
  if (parts.worker === "parks") {
    // Nothing to look at but eventfds, that is: to poll on is to look at them once more.
    if (parts.notifier === "eventfd") p.jump("park", (r) => r.isStarted === 0);
    p.choose("pass"); // it polls on
    p.label("park");
    park(p, parts);
  }
  p.jump("pass");
  p.label("stop");
  p.end();
  return p;
}

/** Notifier.takeKicks: into `isDue`. */
function takeKicks(p: Worker, parts: Parts): void {
  if (parts.notifier === "doorbell") {
    const none = p.fresh("no kicks");
    p.load("takeKicks", "KICKS", SC, (r, kicks) => {
      r.kicks = kicks;
    });
    p.jump(none, (r) => r.kicks === 0);
    p.rmw("takeKicks", "KICKS", () => 0);
    p.label(none);
  } else if (parts.awaitsKick) {
    const none = p.fresh("no kicks");
    p.jump(none, (r) => r.isStarted === 1 || r.kicks === 1);
    p.choose(none); // it looks once in so many passes
    drainKick(p);
    p.label(none);
  }
  p.run((r) => {
    if (r.kicks === 1) r.isDue = 1;
    r.kicks = 0;
  });
}

/** A kick's eventfd: what was in it. */
function drainKick(p: Worker): void {
  p.rmw(
    "#poll drains the kick's eventfd",
    "kickFd",
    () => 0,
    (r, count) => {
      if (count > 0) r.kicks = 1;
    },
  );
}

/** Virtqueue.signal. */
function signal(p: Worker, { ringSteps: ring, has, notifier }: Parts): void {
  const isEarly = has("call: asked before publish");
  if (!isEarly) ring.devicePublish(p);
  ring.callNeeded(p);
  if (isEarly) ring.devicePublish(p);
  p.jump("signalled", (r) => r.isNeeded === 0);
  p.run((r) => {
    r.isNeeded = 0;
  });
  if (notifier === "eventfd") p.rmw("call", "callFd", () => 1);
  else {
    p.rmw("Doorbell.call", "CALL_SEQUENCE", bumped);
    p.notify("Doorbell.call", "CALL_SEQUENCE");
  }
}

function shouldStop(p: Worker): void {
  p.load("shouldStop", "FLAGS", SC, (r, flags) => {
    r.isBusy = flags;
  });
  p.jump("stop", (r) => r.isBusy === 1);
}

/** Once the worker has nothing to do. */
function park(p: Worker, parts: Parts): void {
  const { ringSteps: ring, has, notifier } = parts;
  const readWake = () =>
    p.load("setState, S1", "WAKE", SC, (r, wake) => {
      r.seen = wake;
    });
  const order = { acqRel: true, sc: !has("S2: STATE is stored late") };
  const storeState = () => p.store("setState, S2", "STATE", order, INTERRUPTIBLE);
  const isAllLate = has("setState after the look");
  const isWakeLate = isAllLate || has("S1: WAKE is read after the look");
  const isStateLate = isAllLate || has("STATE alone after the look");
  if (!isWakeLate) readWake();
  if (!isStateLate) storeState();
  p.jump("asked", (r) => r.isStarted === 0);
  ring.enableKick(p);
  p.jump("unpark", (r) => r.isBusy === 1);
  p.label("asked");
  if (notifier === "doorbell" && !has("park: kicks are not looked for")) {
    p.load("hasKicks", "KICKS", SC, (r, kicks) => {
      r.isBusy = kicks;
    });
    p.jump("unpark", (r) => r.isBusy === 1);
  }
  if (parts.stops) shouldStop(p);
  if (isWakeLate) readWake();
  if (isStateLate) storeState();
  sleep(p, parts);
  p.label("unpark");
  p.run((r) => {
    r.isBusy = r.seen = 0;
  });
  p.store("setState", "STATE", SC, RUNNING);
}

/** Notifier.sleep. */
function sleep(p: Worker, { has, notifier }: Parts): void {
  if (notifier === "doorbell") {
    p.wait("schedule, S2", "WAKE", (r) => r.seen);
    return;
  }
  p.load("scheduleBy, S2", "WAKE", SC, (r, wake) => {
    r.isBusy = Number(wake !== r.seen);
  });
  p.jump("unpark", (r) => r.isBusy === 1);
  if (has("park: the eventfd is drained before the sleep")) p.rmw("drain", "kickFd", () => 0);
  p.block("poll", "kickFd", "wakeFd");
  p.rmw("#poll drains the wake eventfd", "wakeFd", () => 0);
  drainKick(p);
}
