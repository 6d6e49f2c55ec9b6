import { describe, expect, test } from "vitest";
import { GUEST_BASE, SharedMemory } from "#dist/memory/shared-memory.js";
import { refused } from "../helpers/kernel-counts.js";

const MIB = 1 << 20;
const PAGE = 65536;

function make(bytes: number): WebAssembly.Memory {
  const pages = bytes / PAGE;
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

describe.each([1, 2, 8, 16, 64, 80])("a memory of %i MiB", (mib) => {
  const shared = SharedMemory.of(make(mib * MIB));

  test("is divided without a gap: page 0 nobody's, then the host's, then the guest's", () => {
    expect(shared.guestStart + shared.guestBytes).toBe(mib * MIB);
    expect(shared.host.freeBytes).toBe(shared.guestStart - PAGE);
    expect(shared.guest.freeBytes).toBe(shared.guestBytes);
    expect(shared.guestStart % PAGE).toBe(0);
  });

  test("gives the host an eighth, 128 KiB at least and 8 MiB at most", () => {
    const share = Math.max(2 * PAGE, Math.min(8 * MIB, (mib * MIB) / 8));
    expect(shared.guestStart - PAGE).toBe(share);
  });

  test("hands out host and guest bytes on their own side of the border", () => {
    const host = shared.allocHost(shared.host.freeBytes);
    const guest = shared.allocGuest(shared.guest.freeBytes);
    expect([host, guest]).toEqual([PAGE, shared.guestStart]);
    refused("ENOMEM", () => shared.allocHost(1));
    refused("ENOMEM", () => shared.allocGuest(1));
    shared.host.free(host);
    shared.guest.free(guest);
  });
});

test("guest addresses begin above 4 GiB, where no linear address can be", () => {
  const shared = SharedMemory.of(make(MIB));
  expect(GUEST_BASE).toBeGreaterThanOrEqual(2n ** 32n);
  expect(shared.toGuest(shared.guestStart)).toBe(GUEST_BASE);
  expect(shared.toGuest(shared.guestStart + 5)).toBe(GUEST_BASE + 5n);
});

test("what is handed out holds zeroes, also the second time, and is aligned", () => {
  const shared = SharedMemory.of(make(MIB));
  for (const alloc of ["allocHost", "allocGuest"] as const) {
    shared[alloc](1);
    const address = shared[alloc](100, 64);
    expect(address % 64).toBe(0);
    shared.bytes.fill(0xff, address, address + 100);
    (alloc === "allocHost" ? shared.host : shared.guest).free(address);
    expect(shared[alloc](100, 64)).toBe(address);
    expect(shared.bytes.slice(address, address + 100)).toEqual(new Uint8Array(100));
  }
});

test("one memory has one division in a thread", () => {
  const memory = make(MIB);
  const [first, second, other] = [memory, memory, make(MIB)].map((m) => SharedMemory.of(m));
  expect(first === second).toBe(true);
  expect(first === other).toBe(false);
});

test("below 1 MiB there is no room for both parts: EINVAL that names memoryBytes", () => {
  const error = refused("EINVAL", () => SharedMemory.of(make(MIB - PAGE)));
  expect(error.message).toContain("memoryBytes");
});
