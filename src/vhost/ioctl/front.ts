import { setTimeout as sleep } from "node:timers/promises";
import type { Task } from "../../kernel/task.js";
import { SharedMemory } from "../../memory/shared-memory.js";
import { VhostError } from "../../spec/errno.js";
import {
  VHOST_MEMORY,
  VHOST_MEMORY_REGION,
  VHOST_NEW_WORKER,
  VHOST_REQUESTS,
  VHOST_SET_MEM_TABLE,
  VHOST_SET_OWNER,
  type VhostRequest,
} from "../../spec/vhost.js";
import { checkStruct, decodeStruct, encodeStruct, type StructValues } from "../user-access.js";
import { fileIoctl, vhostFileOf } from "./ioctl.js";
import { workersEnded } from "./workers.js";

/** What an ioctl's argument holds: the fields of its struct; of a memory table, its regions. */
export type IoctlValues = StructValues | { readonly regions: readonly StructValues[] };

/** Ioctls that make a worker: those that are ending do not count any more. */
const MAKES_WORKER = new Set([VHOST_SET_OWNER, VHOST_NEW_WORKER]);

const BY_NAME = new Map(VHOST_REQUESTS.map((one) => [one.name, one]));

/** An ioctl by its name, VHOST_…. Throws EINVAL. */
export function requestOf(name: string): VhostRequest {
  const found = BY_NAME.get(name);
  if (found) return found;
  throw new VhostError("EINVAL", `${name} is no ioctl of a vhost device`, { name });
}

/** The bytes that an argument points to. Throws EINVAL for fields that the struct has not. */
export function encodeArg({ request, struct }: VhostRequest, values: IoctlValues): Uint8Array {
  if (request === VHOST_SET_MEM_TABLE && Array.isArray(values.regions)) {
    return encodeTable(values.regions);
  }
  return struct ? encodeStruct(struct, values as StructValues) : new Uint8Array(0);
}

/** Throws EINVAL for a value that would be another in its field: a slip of the caller's. */
function checkArg({ struct }: VhostRequest, values: IoctlValues): void {
  const { regions } = values;
  if (Array.isArray(regions)) for (const one of regions) checkStruct(VHOST_MEMORY_REGION, one);
  else if (struct) checkStruct(struct, values as StructValues);
}

function encodeTable(regions: readonly StructValues[]): Uint8Array {
  const header = encodeStruct(VHOST_MEMORY, { nregions: regions.length });
  const all = [header, ...regions.map((region) => encodeStruct(VHOST_MEMORY_REGION, region))];
  return Uint8Array.from(all.flatMap((bytes) => [...bytes]));
}

/**
 * ioctl(2) on a vhost device: `arg` is a user address of the caller's. Resolves when it has
 * returned; calls on one device return in the order in which they were made. One that waits for
 * workers without threads has them work meanwhile. Rejects as `beginIoctl`. Linux: vhost_dev's
 * mutex.
 */
export async function vhostIoctl(
  task: Task,
  fd: number,
  request: number,
  arg: bigint,
): Promise<void> {
  if (typeof arg !== "bigint" || arg !== BigInt.asUintN(64, arg)) {
    throw new VhostError("EINVAL", `arg is a user address, a u64 as a bigint: ${String(arg)}`);
  }
  const file = vhostFileOf(task, fd);
  file.count++; // it stays open until the call returns
  try {
    await file.turns.take(async () => {
      if (MAKES_WORKER.has(request >>> 0)) await workersEnded(file.state.kernel);
      const { error, isDone } = fileIoctl(task, file, request, arg);
      while (!isDone()) {
        if (!file.runPending() && !isDone()) await sleep(1); // a worker works, stands, is frozen
      }
      if (error) throw error;
    });
  } finally {
    file.put();
  }
}

/**
 * The same, by name, with values in place of bytes: they lie in the caller's memory for as long as
 * the call takes. Resolves with what the struct holds afterwards. Rejects with ENOMEM, too, and
 * with EINVAL for values that their fields can't hold.
 */
export async function ioctl(
  task: Task,
  fd: number,
  name: string,
  values: IoctlValues = {},
): Promise<StructValues> {
  const request = requestOf(name);
  checkArg(request, values);
  const bytes = encodeArg(request, values);
  if (bytes.length === 0 || !task.mm) {
    await vhostIoctl(task, fd, request.request, 0n);
    return {};
  }
  const shared = SharedMemory.of(task.mm.memory);
  const address = shared.allocGuest(bytes.length);
  try {
    shared.bytes.set(bytes, address);
    await vhostIoctl(task, fd, request.request, BigInt(address));
    return decodeArg(request, shared.bytes.slice(address, address + bytes.length));
  } finally {
    shared.guest.free(address);
  }
}

/** What an argument's bytes, a copy of them, hold. */
export function decodeArg({ struct }: VhostRequest, bytes: Uint8Array): StructValues {
  return struct ? decodeStruct(struct, Uint8Array.from(bytes)) : {};
}
