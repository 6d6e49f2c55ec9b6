// Carries a TAP's packets, and sleeps for them. Ends when it is told to, or the interface is gone.
import { parentPort, workerData } from "node:worker_threads";
import { WORD_FLAGS, WORD_STATE } from "../kernel/wait.js";
import { TapFile } from "../linux/tap.js";
import { nameThread } from "../linux/thread-identity.js";
import { TASK_DEAD } from "../spec/sched.js";
import { NetSwitchPort } from "./net-switch-port.js";
import type { NetTapThreadOptions } from "./net-tap.js";
import { NetTapPump } from "./net-tap-pump.js";

/** Passes without a packet after which it naps rather than look again at once. */
const PASSES_AWAKE = 8;
const NAP_MS = 1;
/** The longest sleep, so that a program that exits is not kept by it for longer. */
const SLEEP_MS_MAX = 1000;

const { fd, hasUso, wakeFd, words, port, comm, state } = workerData as NetTapThreadOptions;
nameThread(comm);
const states = new Int32Array(words);
const wire = new NetSwitchPort(port, true); // packets come as soon as it is plugged in
const tap = new TapFile(fd, wakeFd);
const pump = new NetTapPump(wire, tap, hasUso);
pump.state = state;

/** Until there is something to carry; a nap while somebody is to be woken who is not known yet. */
function sleep(idle: number): void {
  if (!wire.expect()) tap.sleep(SLEEP_MS_MAX);
  else tap.sleep(idle > PASSES_AWAKE ? NAP_MS : 0);
}

let idle = 0;
for (let told = pump.state; Atomics.load(states, WORD_FLAGS) === 0 && told !== "gone"; ) {
  wire.poll();
  idle = pump.pass() ? 0 : idle + 1;
  if (pump.state !== told) {
    told = pump.state;
    parentPort?.postMessage(told);
  }
  if (idle > 0 && told !== "gone") sleep(idle);
}
wire.close();
wire.reset(); // nothing of now for the next one
Atomics.store(states, WORD_STATE, TASK_DEAD); // no native code from here on
Atomics.notify(states, WORD_STATE);
