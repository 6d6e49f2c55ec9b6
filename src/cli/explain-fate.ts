import { sendSignal } from "../kernel/send-signal.js";
import { SIGNALS, sigmask } from "../spec/signal.js";
import type { Property } from "./explain-identity.js";
import { type OpenDisk, type Scene, tryHalted, tryRead } from "./explain-scene.js";

const { SIGCONT, SIGKILL, SIGSTOP, SIGTERM } = SIGNALS;

/** What a signal has ended is over a moment later: the thread is a real one. */
const ended = ({ device }: OpenDisk) => new Promise((resolve) => device.onDeath(resolve));

async function whenOwnerStops(scene: Scene): Promise<string> {
  const disk = await scene.open();
  const { kernel, owner } = scene;
  sendSignal(kernel.model, owner.task, SIGSTOP, true);
  const state = await tryHalted(disk);
  sendSignal(kernel.model, owner.task, SIGCONT, true);
  return state;
}

async function whenFrozen(scene: Scene): Promise<string> {
  const disk = await scene.open();
  const group = scene.kernel.model.cgroup("/tenant");
  group.freeze = true;
  const state = await tryHalted(disk);
  group.freeze = false;
  return state;
}

async function whenKilled(scene: Scene): Promise<string> {
  const disk = await scene.open();
  const { kernel, owner } = scene;
  kernel.model.kill(disk.worker.pid, SIGKILL);
  const isOwnerAlive = owner.task.exitState === 0;
  if (!isOwnerAlive) await ended(disk); // nobody else had the disk open
  return `its owner ${isOwnerAlive ? "lives" : "is killed"}; ${await tryRead(disk.drive)}`;
}

async function whenTermed(scene: Scene): Promise<string> {
  const { worker } = await scene.open();
  sendSignal(scene.kernel.model, worker, SIGTERM, false);
  if (worker.exitState !== 0) return "ends it";
  return worker.pending & sigmask(SIGTERM) ? "stays pending" : "dropped";
}

/** The last process that has the disk open closes it by its end. */
async function whenOwnerDies(scene: Scene): Promise<string> {
  const disk = await scene.open();
  const { model } = scene.kernel;
  const holder = scene.fork();
  model.kill(scene.owner.pid, SIGKILL);
  const isAlive = disk.worker.exitState === 0;
  if (!isAlive) await ended(disk);
  const seen = `${isAlive ? "lives" : "ends"}; ${await tryRead(disk.drive)}`;
  model.kill(holder.pid, SIGKILL);
  await disk.device.close();
  return seen;
}

async function whenClosed(scene: Scene): Promise<string> {
  const { device, worker } = await scene.open();
  await device.close();
  return scene.kernel.model.task(worker.pid) === undefined ? "ends, and is reaped" : "stays";
}

/** What happens to the worker, by signals and ends. */
export const FATE: readonly Property[] = [
  { name: "its owner is stopped (SIGSTOP)", observe: whenOwnerStops },
  { name: "its owner's cgroup is frozen", observe: whenFrozen },
  { name: "SIGTERM to the worker", observe: whenTermed },
  { name: "SIGKILL to the worker", observe: whenKilled },
  { name: "its owner is killed, another has the disk open", observe: whenOwnerDies },
  { name: "the disk is closed", observe: whenClosed },
];
