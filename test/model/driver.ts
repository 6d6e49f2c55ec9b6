// The driver's thread. The table in handshake.ts says which function of the product each step is.

import { Program, SC } from "./program.js";
import { bumped, type Driver, type Parts, RUNNING } from "./rings.js";

/** The driver's thread: submits in bursts, gets what is used, until all requests are done. */
export function driverOf(parts: Parts): Driver {
  const { ringSteps: ring, requests, num, has } = parts;
  const p: Driver = new Program("driver", {
    next: 0,
    published: 0,
    kicked: 0,
    got: 0,
    adding: 0,
    pending: 0,
    value: 0,
    isNeeded: 0,
    isBusy: 0,
    sequence: 0,
  });
  const room = (r: { next: number; got: number }) =>
    Math.min(num - (r.next - r.got), requests - r.next);
  p.label("submit");
  p.jump("run", (r) => room(r) === 0);
  p.run((r) => {
    r.adding = 1;
  });
  p.label("burst");
  p.jump("add", (r) => r.adding === room(r));
  p.choose("add");
  p.run((r) => {
    r.adding++;
  });
  p.jump("burst");
  p.label("add");
  ring.addBuf(p);
  p.jump("add", (r) => r.adding > 0);
  if (has("S1: woken before the work is stored")) wake(p, parts);
  if (!has("kick: asked before publish")) ring.publish(p);
  ring.kickNeeded(p);
  if (has("kick: asked before publish")) ring.publish(p);
  p.jump("kicked", (r) => r.isNeeded === 0);
  p.run((r) => {
    r.isNeeded = 0;
  });
  if (parts.notifier === "eventfd") p.rmw("kick", "kickFd", () => 1);
  else {
    p.rmw("Doorbell.kick", "KICKS", () => 1);
    if (!has("S1: woken before the work is stored")) wake(p, parts);
  }
  p.label("kicked");
  p.choose("submit"); // the next turn of the event loop
  completions(p, parts);
  p.jump("submit");
  return p;
}

/** Completions: one look at the used entries, and perhaps a sleep. */
function completions(p: Driver, parts: Parts): void {
  const { ringSteps: ring, requests, has } = parts;
  const canSleep = parts.driver === "sleeps";
  const isDoorbell = parts.notifier === "doorbell";
  const isLate = has("sleep: the sequence is read after the look");
  const callSequence = () =>
    p.load("callSequence", "CALL_SEQUENCE", SC, (r, sequence) => {
      r.sequence = sequence;
    });
  p.label("run");
  if (canSleep && isDoorbell && !isLate) callSequence();
  p.run((r) => {
    r.isBusy = r.got;
  });
  ring.getBufs(p);
  p.run((r) => {
    r.isBusy = Number(r.got > r.isBusy);
  });
  p.jump("looked", (r) => r.isBusy === 1 || !canSleep);
  p.choose("looked"); // it polls on
  ring.enableCall(p);
  p.jump("awake", (r) => r.isBusy === 1);
  if (isDoorbell) {
    if (isLate) callSequence();
    p.wait("waitCall", "CALL_SEQUENCE", (r) => r.sequence);
  } else {
    const drain = () => p.rmw("the call's eventfd is drained", "callFd", () => 0);
    const isEarly = has("sleep: the eventfd is drained before the sleep");
    if (isEarly) drain();
    p.block("waits for its call", "callFd");
    if (!isEarly) drain();
  }
  p.label("awake");
  p.run((r) => {
    r.isBusy = 0;
  });
  ring.disableCall(p);
  p.label("looked");
  p.run((r) => {
    r.isBusy = r.sequence = 0;
  });
  p.jump("done", (r) => r.got === requests);
  p.choose("submit");
  p.jump("submit", (r) => r.got === r.next); // nothing is in flight
  p.jump("run");
  p.label("done");
  if (parts.stops) {
    p.rmw("vhostTaskStop", "FLAGS", () => 1);
    wake(p, parts);
  }
  p.end();
}

/** Waker.wake. */
function wake(p: Driver, { has, notifier }: Parts): void {
  const isSeen = p.fresh("woken");
  const order = { acqRel: true, sc: !has("S2: STATE is read early") };
  const bump = () => p.rmw("wake, S1 S2", "WAKE", bumped);
  const look = () =>
    p.load("wake, S2", "STATE", order, (r, state) => {
      r.isBusy = state;
    });
  if (has("S2: STATE is read before the bump")) {
    look();
    bump();
  } else {
    bump();
    look();
  }
  p.jump(isSeen, (r) => r.isBusy === RUNNING);
  p.run((r) => {
    r.isBusy = 0;
  });
  p.notify("wake", "WAKE");
  if (notifier === "eventfd") p.rmw("alsoWake", "wakeFd", () => 1);
  p.label(isSeen);
}
