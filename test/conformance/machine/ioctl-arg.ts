// What a script writes in place of the bytes that an ioctl's argument points to.

import type { EventFd } from "#dist/kernel/eventfd.js";
import { fdInstall } from "#dist/kernel/files.js";
import type { Task } from "#dist/kernel/task.js";
import {
  VHOST_REQUESTS,
  VHOST_SET_MEM_TABLE,
  VHOST_SET_VRING_ADDR,
  VHOST_SET_VRING_CALL,
  VHOST_SET_VRING_ERR,
  VHOST_SET_VRING_KICK,
  type VhostRequest,
} from "#dist/spec/vhost.js";
import { decodeArg, encodeArg, type IoctlValues } from "#dist/vhost/ioctl/front.js";
import { ScriptError } from "./errors.js";
import { ProgramEventFd, Ring } from "./ring.js";

/**
 * What an ioctl points to: the fields of its struct, into which results are written; or its one
 * value. `undefined`: NULL. With `ring`, addresses or the eventfd are that ring's; `eventfd`: that
 * one. `arg`: the argument itself, an address.
 */
export type IoctlArg = Record<string, unknown> | number | bigint | undefined;

const NAMED = new Map(VHOST_REQUESTS.map((one) => [one.name, one]));
const EVENTFDS = new Map<number, "kick" | "call" | "err">([
  [VHOST_SET_VRING_KICK, "kick"],
  [VHOST_SET_VRING_CALL, "call"],
  [VHOST_SET_VRING_ERR, "err"],
]);

/** An ioctl by its name, or its number as "0xaf7f". */
export function requestNamed(name: string): VhostRequest {
  const found = NAMED.get(name);
  if (found) return found;
  if (/^0x[0-9a-f]+$/i.test(name)) return { name, request: Number(name) };
  throw new ScriptError(`${name} is no ioctl that there is: a name, or "0xaf7f"`);
}

const isFields = (arg: IoctlArg): arg is Record<string, unknown> =>
  typeof arg === "object" && arg !== null;

/** Where a ring lies, as SET_VRING_ADDR is told. It lies in the caller's memory from now on. */
function addressesOf(ring: Ring, task: Task): Record<string, bigint> {
  if (task.mm) ring.moveTo(task.mm.memory);
  return {
    desc_user_addr: BigInt(ring.desc),
    avail_user_addr: BigInt(ring.avail),
    used_user_addr: BigInt(ring.used),
  };
}

/** What a script's argument is in memory, and what is to be undone after the call. */
export interface Encoded {
  /** `undefined`: NULL, or an address of the script's own. */
  readonly bytes: Uint8Array | undefined;
  readonly address: bigint;
  finish(memory: Uint8Array): void;
}

/** `task` calls; an eventfd that has no number there has one for as long as the call takes. */
export function encodeIoctl(request: VhostRequest, arg: IoctlArg, task: Task): Encoded {
  const nothing = { bytes: undefined, finish: () => {} };
  if (arg === undefined) return { ...nothing, address: 0n };
  if (isFields(arg) && typeof arg.arg === "bigint") return { ...nothing, address: arg.arg };
  const { values, finish } = valuesOf(request, arg, task);
  const hasStruct = request.struct !== undefined;
  const bytes = hasStruct ? encodeArg(request, values) : plainBytes(arg);
  return {
    bytes,
    address: 0n,
    finish: (memory) => {
      finish();
      if (!isFields(arg) || request.request === VHOST_SET_MEM_TABLE) return;
      for (const [name, value] of Object.entries(decodeArg(request, memory))) {
        if (name in arg || name === "worker_id" || name === "value") arg[name] = value;
      }
    },
  };
}

function valuesOf(
  { request, struct }: VhostRequest,
  arg: Exclude<IoctlArg, undefined>,
  task: Task,
): { values: IoctlValues; finish: () => void } {
  const finish = () => {};
  if (!isFields(arg)) return { values: { value: arg }, finish };
  if (Array.isArray(arg.regions)) return { values: { regions: arg.regions }, finish };
  const names = Object.keys(struct?.fields ?? {});
  const fields = Object.entries(arg).filter(
    ([name, value]) => names.includes(name) && /^(number|bigint)$/.test(typeof value),
  );
  const values = Object.fromEntries(fields) as Record<string, number | bigint>;
  const which = EVENTFDS.get(request);
  const { ring } = arg;
  if (request === VHOST_SET_VRING_ADDR && ring instanceof Ring) {
    return { values: { ...addressesOf(ring, task), ...values }, finish };
  }
  const event = arg.eventfd ?? (which && ring instanceof Ring ? ring[which] : undefined);
  if (!which || !(event instanceof ProgramEventFd) || !task.files) return { values, finish };
  return lend({ values, file: event.file, files: task.files });
}

function lend(of: { values: object; file: EventFd; files: NonNullable<Task["files"]> }) {
  const { values, file, files } = of;
  file.count++;
  const fd = fdInstall(files, file);
  const finish = () => {
    files.fds.delete(fd);
    file.put();
  };
  return { values: { ...values, fd }, finish };
}

/** Behind an argument that has no struct: its first number, or 0. */
function plainBytes(arg: Exclude<IoctlArg, undefined>): Uint8Array {
  const first = isFields(arg)
    ? (arg.index ?? Object.values(arg).find((value) => typeof value === "number") ?? 0)
    : arg;
  const bytes = new Uint8Array(64);
  new DataView(bytes.buffer).setUint32(
    0,
    Number(BigInt.asUintN(32, BigInt(first as number))),
    true,
  );
  return bytes;
}
