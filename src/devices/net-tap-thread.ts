// Carries a TAP's packets, and sleeps for them. Ends when it is told to, or the interface is gone.
import { parentPort, workerData } from "node:worker_threads";
import { WORD_FLAGS } from "../kernel/wait.js";
import { TapFile } from "../linux/tap.js";
import { nameThread } from "../linux/thread-identity.js";
import { NetSwitchPort } from "./net-switch-port.js";
import type { NetTapThreadOptions } from "./net-tap.js";
import { NetTapPump } from "./net-tap-pump.js";

/** The longest sleep, so that a program that exits is not kept by it for longer. */
const SLEEP_MS_MAX = 1000;

const { fd, wakeFd, words, port, comm } = workerData as NetTapThreadOptions;
nameThread(comm);
const flags = new Int32Array(words);
const wire = new NetSwitchPort(port, true); // packets come as soon as it is plugged in
const tap = new TapFile(fd, wakeFd);
const pump = new NetTapPump(wire, tap);
for (let told = pump.state; Atomics.load(flags, WORD_FLAGS) === 0 && told !== "gone"; ) {
  wire.poll();
  const isBusy = pump.pass();
  if (pump.state !== told) {
    told = pump.state;
    parentPort?.postMessage(told);
  }
  if (!isBusy && told !== "gone") tap.sleep(wire.expect() ? 0 : SLEEP_MS_MAX);
}
wire.close();
wire.reset(); // nothing of now for the next one
