import { EventFd } from "../../kernel/eventfd.js";
import type { OpenFile } from "../../kernel/files.js";
import type { Task } from "../../kernel/task.js";
import { VhostError } from "../../spec/errno.js";
import { VHOST_FILE_UNBIND, type VhostStruct } from "../../spec/vhost.js";
import type { StructValues, UserMemory } from "../user-access.js";
import type { VhostState } from "./state.js";

/** One ioctl under way. */
export interface IoctlCall {
  readonly dev: VhostState;
  /** Who calls. */
  readonly task: Task;
  /** The caller's memory, in which the argument lies. */
  readonly memory: UserMemory;
  /** A user address, as it came. */
  readonly arg: bigint;
}

/** What an ioctl does: all of it or, when it throws, nothing but what is said there. */
export type Handler = (call: IoctlCall) => void;

/** The struct that the argument points to. EFAULT. */
export const structOf = <Name extends string>(
  { memory, arg }: IoctlCall,
  struct: VhostStruct,
): Record<Name, number> & StructValues => {
  return memory.readStruct(arg, struct) as Record<Name, number> & StructValues;
};

/** The u64 that the argument points to. EFAULT. */
export function u64Of({ memory, arg }: IoctlCall): bigint {
  return new DataView(memory.read(arg, 8).buffer).getBigUint64(0, true);
}

/** The s32 that the argument points to. EFAULT. */
export function s32Of({ memory, arg }: IoctlCall): number {
  return new DataView(memory.read(arg, 4).buffer).getInt32(0, true);
}

/** Writes a u64 there. EFAULT. */
export function putU64({ memory, arg }: IoctlCall, value: bigint): void {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  memory.write(arg, bytes);
}

/** What a descriptor of the caller's is. EBADF. Linux: fget(). */
export function fileOf({ files }: Task, fd: number): OpenFile {
  const file = files?.fds.get(fd);
  if (file) return file;
  throw new VhostError("EBADF", `${fd} is not open`, { fd });
}

/** The eventfd of a descriptor, or none for -1. EBADF; EINVAL: it is something else. */
export function eventfdOf(task: Task, fd: number): EventFd | null {
  if (fd === VHOST_FILE_UNBIND) return null;
  const file = fileOf(task, fd);
  if (file instanceof EventFd) return file;
  throw new VhostError("EINVAL", `${fd} is no eventfd`, { fd });
}
