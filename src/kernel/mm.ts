import { VhostError } from "../spec/errno.js";
import { CLONE_VM } from "../spec/sched.js";
import type { Cgroup } from "./cgroup.js";
import type { Task } from "./task.js";

/** Bytes of a page of linear memory. */
export const WASM_PAGE_BYTES = 65536;
/** Bytes that a 32-bit linear memory can have at most. */
export const MEMORY_BYTES_MAX = 2 ** 32;
/** Bytes of an address space when nothing is said. */
export const MEMORY_BYTES_DEFAULT = 16 * 2 ** 20;

/** An address space: one shared linear memory of fixed size. Linux: mm_struct. */
export class Mm {
  readonly memory: WebAssembly.Memory;
  /** Where its bytes are charged as long as it has users; its users may move, it does not. */
  readonly cgroup: Cgroup;
  /** Tasks that live in it. Linux: mm_users. */
  users = 1;

  /**
   * An empty address space with one user, all of it charged to `cgroup`. ENOMEM: memory.max of a
   * group on the path, or the host has no room. Linux: mm_alloc().
   */
  constructor(bytes: number, cgroup: Cgroup) {
    cgroup.tryChargeMemory(bytes);
    this.cgroup = cgroup;
    const pages = bytes / WASM_PAGE_BYTES;
    try {
      this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    } catch (error) {
      cgroup.unchargeMemory(bytes);
      throw new VhostError("ENOMEM", `the host has no ${bytes} bytes of memory`, { bytes }, error);
    }
  }
}

/** EINVAL unless `bytes` is a size an address space can have: whole pages, 64 KiB to 4 GiB. */
export function checkMemoryBytes(bytes: number): void {
  if (bytes % WASM_PAGE_BYTES === 0 && bytes > 0 && bytes <= MEMORY_BYTES_MAX) return;
  throw new VhostError("EINVAL", "memoryBytes is a multiple of 65536, up to 4 GiB: round it up", {
    memoryBytes: bytes,
  });
}

/**
 * The child's address space: none when the caller has none; with CLONE_VM the caller's, one user
 * more; else a copy of every byte, charged to `cgroup` (ENOMEM: no room for it). Linux: copy_mm(),
 * dup_mm().
 */
export function copyMm(current: Task, flags: number, cgroup: Cgroup): Mm | null {
  const old = current.mm;
  if (old === null) return null;
  if (flags & CLONE_VM) {
    old.users++;
    return old;
  }
  const from = new Uint8Array(old.memory.buffer);
  const mm = new Mm(from.byteLength, cgroup);
  new Uint8Array(mm.memory.buffer).set(from);
  return mm;
}

/** One user more, which is no task: who needs the memory when they are gone. Linux: mmget(). */
export function mmget(mm: Mm | null): void {
  if (mm !== null) mm.users++;
}

/**
 * One user less. With the last, its group's charge ends; the memory itself goes when nothing refers
 * to it any more. Linux: mmput().
 */
export function mmput(mm: Mm | null): void {
  if (mm === null) return;
  mm.users--;
  if (mm.users === 0) mm.cgroup.unchargeMemory(mm.memory.buffer.byteLength);
}
