import type { Task } from "../kernel/task.js";
import { MEMORY_BYTES_MIN, SharedMemory } from "../memory/shared-memory.js";
import { VhostError } from "../spec/errno.js";
import type { VhostFieldType, VhostStruct } from "../spec/vhost.js";

/** The kernel's addresses begin here, on x86-64. Linux: TASK_SIZE_MAX. */
const TASK_SIZE_MAX = 2n ** 47n - 4096n;

/**
 * Whether a range can be the program's at all; nothing says that it is mapped. Linux: access_ok().
 */
export const accessOk = (address: bigint, bytes: bigint): boolean =>
  bytes <= TASK_SIZE_MAX && address <= TASK_SIZE_MAX - bytes;

/** Values of a struct's fields, by name: u64 as bigint, others as numbers. */
export type StructValues = Record<string, number | bigint>;

/** Pages that a program has unmapped, or made read-only. Structured-cloneable. */
export interface MappingChange {
  /** The first address, and the one behind the last. */
  readonly start: bigint;
  readonly end: bigint;
  readonly isReadable: boolean;
}

const changesOf = new WeakMap<WebAssembly.Memory, MappingChange[]>();

const listenersOf = new WeakMap<WebAssembly.Memory, Set<() => void>>();

/** Calls `listener` when a program changes what is mapped. Returns how to end that. */
export function onMappingChange(memory: WebAssembly.Memory, listener: () => void): () => void {
  const listeners = listenersOf.get(memory) ?? new Set();
  listenersOf.set(memory, listeners.add(listener));
  return () => void listeners.delete(listener);
}

function change(memory: WebAssembly.Memory, start: bigint, bytes: bigint, how: boolean): void {
  const changes = changesOf.get(memory) ?? [];
  changes.push({ start, end: start + bytes, isReadable: how });
  changesOf.set(memory, changes);
  for (const listener of [...(listenersOf.get(memory) ?? [])]) listener();
}

/** Nothing is mapped there any more, for the kernel. The bytes stay. Linux: munmap(2). */
export const munmap = (memory: WebAssembly.Memory, address: bigint, bytes: bigint): void =>
  change(memory, address, bytes, false);

/** The kernel does not write there any more. Buffers are not looked at. Linux: mprotect(2). */
export const mprotectRead = (memory: WebAssembly.Memory, address: bigint, bytes: bigint): void =>
  change(memory, address, bytes, true);

/**
 * The memory of a process as the kernel sees it: a user address is a linear address in the guest's
 * part; elsewhere nothing is mapped. Linux: copy_from_user(), copy_to_user().
 */
export class UserMemory {
  readonly #shared: SharedMemory | undefined;
  readonly #given: readonly MappingChange[] | undefined;

  /**
   * Without memory, or with less than a device needs, nothing is mapped. `changes`: what has been
   * changed of it; by default, all that was changed in this thread, as of when it is used.
   */
  constructor(memory: WebAssembly.Memory | undefined, changes?: readonly MappingChange[]) {
    const isEnough = memory !== undefined && memory.buffer.byteLength >= MEMORY_BYTES_MIN;
    this.#shared = isEnough ? SharedMemory.of(memory) : undefined;
    this.#given = changes;
  }

  /** The caller's. */
  static of({ mm }: Task): UserMemory {
    return new UserMemory(mm?.memory);
  }

  /** Whether all of a range is mapped. */
  isMapped(address: bigint, bytes: bigint): boolean {
    const shared = this.#shared;
    if (shared === undefined) return false;
    const start = BigInt(shared.guestStart);
    if (address < start || address + bytes > start + BigInt(shared.guestBytes)) return false;
    return !this.changes.some((one) => !one.isReadable && meets(one, address, bytes));
  }

  /** Whether it can be written, too. */
  isWritable(address: bigint, bytes: bigint): boolean {
    const isChanged = this.changes.some((one) => meets(one, address, bytes));
    return !isChanged && this.isMapped(address, bytes);
  }

  /** What the program has changed, for another thread's `UserMemory`. */
  get changes(): readonly MappingChange[] {
    if (this.#given) return this.#given;
    return (this.#shared && changesOf.get(this.#shared.memory)) ?? NO_CHANGES;
  }

  /** The parts of [start, end) that are mapped, in order. */
  mappedParts(start: bigint, end: bigint): { start: bigint; end: bigint }[] {
    let parts = this.#shared === undefined ? [] : [{ start, end }];
    const first = BigInt(this.#shared?.guestStart ?? 0);
    const ends = [
      { start: 0n, end: first },
      { start: BigInt(this.end), end: END_OF_ADDRESSES },
    ];
    for (const hole of [...ends, ...this.changes.filter(({ isReadable }) => !isReadable)]) {
      parts = parts.flatMap((part) => [
        { start: part.start, end: part.end < hole.start ? part.end : hole.start },
        { start: part.start > hole.end ? part.start : hole.end, end: part.end },
      ]);
      parts = parts.filter((part) => part.start < part.end);
    }
    return parts;
  }

  /** Where the mapping ends: the first address behind it. 0: nothing is mapped. */
  get end(): number {
    return this.#shared === undefined ? 0 : this.#shared.guestStart + this.#shared.guestBytes;
  }

  /** A copy of what is there. EFAULT. */
  read(address: bigint, bytes: number): Uint8Array<ArrayBuffer> {
    const { shared, at } = this.#place(address, bytes);
    const copy = new Uint8Array(bytes);
    copy.set(shared.bytes.subarray(at, at + bytes));
    return copy;
  }

  /** EFAULT, with nothing written. */
  write(address: bigint, bytes: Uint8Array): void {
    if (!this.isWritable(address, BigInt(bytes.length))) {
      throw new VhostError("EFAULT", "the address can't be written", { address });
    }
    const { shared, at } = this.#place(address, bytes.length);
    shared.bytes.set(bytes, at);
  }

  #place(address: bigint, bytes: number): { shared: SharedMemory; at: number } {
    const shared = this.#shared;
    if (shared !== undefined && this.isMapped(address, BigInt(bytes))) {
      return { shared, at: Number(address) };
    }
    throw new VhostError("EFAULT", "the address is not mapped", { address, bytes });
  }

  /** A struct. EFAULT. */
  readStruct(address: bigint, struct: VhostStruct): StructValues {
    return decodeStruct(struct, this.read(address, struct.bytes));
  }

  /** Writes a struct whole; fields without a value are 0. EFAULT. */
  writeStruct(address: bigint, struct: VhostStruct, values: StructValues): void {
    this.write(address, encodeStruct(struct, values));
  }

  /** The u32 at an address. EFAULT. Linux: get_user(). */
  readU32(address: bigint): number {
    return new DataView(this.read(address, 4).buffer).getUint32(0, true);
  }
}

const NO_CHANGES: readonly MappingChange[] = [];
/** Every address is below: a region may end past 2^64. */
const END_OF_ADDRESSES = 2n ** 65n;

const meets = ({ start, end }: MappingChange, address: bigint, bytes: bigint): boolean =>
  address < end && start < address + bytes;

const GET: Record<VhostFieldType, (view: DataView, at: number) => number | bigint> = {
  u8: (view, at) => view.getUint8(at),
  u32: (view, at) => view.getUint32(at, true),
  s32: (view, at) => view.getInt32(at, true),
  u64: (view, at) => view.getBigUint64(at, true),
};

const SET: Record<VhostFieldType, (view: DataView, at: number, value: number | bigint) => void> = {
  u8: (view, at, value) => view.setUint8(at, Number(value)),
  u32: (view, at, value) => view.setUint32(at, Number(value), true),
  s32: (view, at, value) => view.setInt32(at, Number(value), true),
  u64: (view, at, value) => view.setBigUint64(at, BigInt(value), true),
};

/** The fields of a struct whose bytes are ours alone. */
export function decodeStruct(struct: VhostStruct, bytes: Uint8Array<ArrayBuffer>): StructValues {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const values = Object.entries(struct.fields).map(([name, [at, type]]) => [
    name,
    GET[type](view, at),
  ]);
  return Object.fromEntries(values) as StructValues;
}

const RANGE: Record<VhostFieldType, [least: bigint, most: bigint]> = {
  u8: [0n, 0xffn],
  u32: [0n, 0xffff_ffffn],
  s32: [-0x8000_0000n, 0x7fff_ffffn],
  u64: [0n, 2n ** 64n - 1n],
};

/** Throws EINVAL for what a field of that type can't hold, and would hold as something else. */
function checkField(name: string, type: VhostFieldType, value: unknown): void {
  const [least, most] = RANGE[type];
  const isWhole = typeof value === "bigint" || Number.isSafeInteger(value);
  if (isWhole && (value as number) >= least && (value as number) <= most) return;
  const text = `${name} is a whole number from ${least} to ${most}, not ${String(value)}`;
  throw new VhostError("EINVAL", text, { value });
}

/** Throws EINVAL for values that a struct can't hold: `encodeStruct` wraps them, as C does. */
export function checkStruct(struct: VhostStruct, values: StructValues): void {
  for (const [name, value] of Object.entries(values)) {
    const field = struct.fields[name];
    if (field) checkField(name, field[1], value);
  }
}

/** The bytes of a struct; fields without a value are 0. Throws EINVAL for a name that none has. */
export function encodeStruct(struct: VhostStruct, values: StructValues): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(struct.bytes);
  const view = new DataView(bytes.buffer);
  for (const [name, value] of Object.entries(values)) {
    const field = struct.fields[name];
    if (!field) throw new VhostError("EINVAL", `the struct has no field ${name}`, { values });
    SET[field[1]](view, field[0], value);
  }
  return bytes;
}
