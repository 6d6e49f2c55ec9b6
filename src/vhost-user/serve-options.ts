import { Kernel } from "../kernel/kernel.js";
import { VhostError } from "../spec/errno.js";
import type { DevOptions } from "../vhost/dev.js";
import type { DeviceSpec } from "../vhost/device.js";
import { DOORBELL_QUEUES_MAX } from "../vhost/notify.js";
import { checkPolicy } from "../vhost/policy.js";
import { checkWorkerOptions } from "../vhost/worker-handle.js";

const isText = (value: unknown) => typeof value === "string" && value !== "";
const isDevice = (value: unknown) => isText((value as Partial<DeviceSpec> | null)?.module);
const isKernel = (value: unknown) =>
  value instanceof Kernel || (value as { model?: unknown } | null)?.model instanceof Kernel;

const isWorkerCount = (value: unknown) =>
  Number.isInteger(value) && (value as number) >= 1 && (value as number) <= DOORBELL_QUEUES_MAX;

/** What each option must be, where it is given. */
const CHECKS: Record<string, [must: string, check: (value: unknown) => boolean]> = {
  socketPath: ["a path", isText],
  device: ["what blk() and the like return", isDevice],
  connect: ["true or false", (value) => typeof value === "boolean"],
  signal: ["an AbortSignal", (value) => value instanceof AbortSignal],
  asOwner: ["true or false", (value) => typeof value === "boolean"],
  memory: ['"sealed" or "any"', (value) => value === "sealed" || value === "any"],
  kernel: ["a Kernel", isKernel],
  onEvent: ["a function", (value) => typeof value === "function"],
  workers: [`1 to ${DOORBELL_QUEUES_MAX}`, isWorkerCount],
};
const NEEDED = ["socketPath", "device"];
const OF_DEVICES = ["ring", "pollMicroseconds", "policy"];

/** Throws EINVAL, naming it, for an option that is missing, wrong or not known. */
export function checkServeOptions(options: object): void {
  const names = [...Object.keys(CHECKS), ...OF_DEVICES];
  const unknown = Object.keys(options ?? {}).find((name) => !names.includes(name));
  if (unknown !== undefined) {
    throw new VhostError("EINVAL", `there is no option ${unknown}; there are ${names.join(", ")}`);
  }
  for (const [name, [must, check]] of Object.entries(CHECKS)) {
    const value = (options as Record<string, unknown>)?.[name];
    if (value === undefined && !NEEDED.includes(name)) continue;
    if (!check(value)) throw new VhostError("EINVAL", `${name} must be ${must}`, { value });
  }
  checkWorkerOptions(options as DevOptions);
  checkPolicy((options as DevOptions).policy);
}
