import { setImmediate as nextTurn } from "node:timers/promises";
import { check, lastError, libc } from "./libc.js";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MREMAP_MAYMOVE = 1;
const MREMAP_FIXED = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_SEAL_SHRINK = 0x2;

/** Bytes of a page of the machine that everything we map is aligned to. */
export const MAP_PAGE_BYTES = 4096;

/** So much is unmapped at once, while which all threads that touch new pages wait. */
const UNMAP_BYTES = 64 << 20;

/** The address in this program of a linear memory's first byte. */
export function baseAddress(memory: WebAssembly.Memory): number {
  return libc().addressOf(new Uint8Array(memory.buffer));
}

/** Zeroes of our own in the place of whatever is there. */
function mapZeroes(at: number, length: number): number {
  const flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE;
  return libc().mmap(at, length, PROT_READ | PROT_WRITE, flags, -1, 0);
}

/**
 * Puts `length` bytes of a file, from `offset`, in the place of a linear memory's at `address`:
 * both sides see the same bytes from now on. Whole pages. The file must be that long and stay so:
 * what is missing ends the program when it is touched. Throws what mmap(2) and mremap(2) fail with;
 * then the place is as it was: never a hole, which others would fill.
 */
export function mapFile(
  memory: WebAssembly.Memory,
  address: number,
  length: number,
  fd: number,
  offset: number,
): void {
  const { mmap, mremap, munmap } = libc();
  const at = baseAddress(memory) + address;
  const found = mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
  check(found, "memory can't be mapped");
  if (mremap(found, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, at) !== -1) return;
  const error = lastError("memory can't be mapped");
  munmap(found, length);
  mapZeroes(at, length);
  throw error;
}

/**
 * Puts zeroes of our own back in the place of what was mapped: never a hole. Much of it takes
 * several turns of the event loop. Rejects with ENOMEM.
 */
export async function unmapFile(
  memory: WebAssembly.Memory,
  address: number,
  length: number,
): Promise<void> {
  const at = baseAddress(memory) + address;
  for (let done = 0; done < length; done += UNMAP_BYTES) {
    if (done > 0) await nextTurn();
    const bytes = Math.min(UNMAP_BYTES, length - done);
    check(mapZeroes(at + done, bytes), "memory can't be unmapped");
  }
}

/** Whether a file is one in memory alone, of tmpfs or hugetlbfs: no other has seals. */
export function isMemoryFile(fd: number): boolean {
  return libc().fcntl(fd, F_GET_SEALS, 0) !== -1;
}

/**
 * Makes sure that a file never gets shorter: touching mapped bytes that are gone would end the
 * program. `false`: it can't be had, for the file is no memfd or was made without sealing.
 * Linux: F_ADD_SEALS of fcntl(2).
 */
export function sealAgainstShrinking(fd: number): boolean {
  const seals = libc().fcntl(fd, F_GET_SEALS, 0);
  if (seals !== -1 && (seals & F_SEAL_SHRINK) !== 0) return true;
  return libc().fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) !== -1;
}
