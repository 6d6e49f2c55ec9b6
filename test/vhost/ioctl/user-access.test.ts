import { describe, expect, test } from "vitest";
import { Kernel } from "#dist/kernel/kernel.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import { VHOST_VRING_ADDR, VHOST_VRING_FILE } from "#dist/spec/vhost.js";
import {
  accessOk,
  decodeStruct,
  encodeStruct,
  mprotectRead,
  munmap,
  UserMemory,
} from "#dist/vhost/user-access.js";

const TASK_SIZE = 2n ** 47n - 4096n;

describe("access_ok", () => {
  test.each([
    [0n, 0n, true],
    [0n, TASK_SIZE, true],
    [1n, TASK_SIZE, false],
    [TASK_SIZE - 8n, 8n, true],
    [TASK_SIZE - 8n, 9n, false],
    [TASK_SIZE, 0n, true],
    [2n ** 47n, 1n, false],
    [2n ** 64n - 1n, 1n, false],
    [0n, 2n ** 64n - 1n, false],
  ])("at %d, %d bytes: %s", (address, bytes, is) => {
    expect(accessOk(address, bytes)).toBe(is);
  });
});

describe("the memory of a process", () => {
  const { mm } = new Kernel().spawn({ memoryBytes: 1 << 20 });
  const shared = SharedMemory.of((mm ?? expect.fail("no memory")).memory);
  const user = new UserMemory(shared.memory);
  const start = BigInt(shared.guestStart);
  const end = start + BigInt(shared.guestBytes);

  test.each([
    ["the first byte", start, 1],
    ["the last byte", end - 1n, 1],
    ["all of it", start, shared.guestBytes],
  ])("is mapped in the guest's part: %s", (_, address, bytes) => {
    expect(user.read(address, bytes)).toHaveLength(bytes);
  });

  test.each([
    ["NULL", 0n, 4],
    ["the system's part", 65536n, 4],
    ["the byte before", start - 1n, 1],
    ["across the beginning", start - 2n, 4],
    ["across the end", end - 2n, 4],
    ["the end", end, 1],
    ["the kernel's", 0xffff_8000_0000_0000n, 4],
    ["across 2^64", 2n ** 64n - 2n, 4],
  ])("is not elsewhere: %s", (_, address, bytes) => {
    const before = shared.bytes.slice();
    expect(() => user.read(address, bytes)).toThrow("EFAULT");
    expect(() => user.write(address, new Uint8Array(bytes).fill(255))).toThrow("EFAULT");
    expect(Buffer.compare(before, shared.bytes)).toBe(0);
  });

  test("a copy stays as it was read", () => {
    user.write(start, Uint8Array.of(1, 2, 3));
    const copy = user.read(start, 3);
    user.write(start, Uint8Array.of(9, 9, 9));
    expect([...copy]).toEqual([1, 2, 3]);
  });

  test("without memory, or with too little for a device, nothing is mapped", () => {
    const small = new WebAssembly.Memory({ initial: 4, maximum: 4, shared: true });
    for (const one of [new UserMemory(undefined), new UserMemory(small)]) {
      expect([one.end, one.isMapped(65536n, 0n)]).toEqual([0, false]);
    }
  });
});

describe("structs", () => {
  test("fields are where Linux has them, little-endian", () => {
    const bytes = encodeStruct(VHOST_VRING_ADDR, {
      index: 1,
      flags: 2,
      desc_user_addr: 3n,
      used_user_addr: 4n,
      avail_user_addr: 5n,
      log_guest_addr: 0x1122_3344_5566_7788n,
    });
    const words = new BigUint64Array(bytes.buffer);
    expect([...words]).toEqual([0x2_0000_0001n, 3n, 4n, 5n, 0x1122_3344_5566_7788n]);
  });

  test("go there and back; what is left out is 0", () => {
    expect(decodeStruct(VHOST_VRING_FILE, encodeStruct(VHOST_VRING_FILE, { fd: -1 }))).toEqual({
      index: 0,
      fd: -1,
    });
  });

  test("a field that there is not is refused", () => {
    expect(() => encodeStruct(VHOST_VRING_FILE, { number: 1 })).toThrow("EINVAL");
  });
});

describe("pages that a program unmaps, or protects", () => {
  const { mm } = new Kernel().spawn({ memoryBytes: 1 << 20 });
  const { memory, guestStart, guestBytes } = SharedMemory.of(
    (mm ?? expect.fail("no memory")).memory,
  );
  const user = new UserMemory(memory);
  const start = BigInt(guestStart);
  const end = start + BigInt(guestBytes);

  test("are not read, are not written; the others are what is left of a range", () => {
    munmap(memory, start + 4096n, 4096n);
    mprotectRead(memory, start + 12288n, 4096n);
    const is = (at: bigint) => [user.isMapped(at, 4n), user.isWritable(at, 4n)];
    expect([0n, 4096n, 8192n, 12288n, 16384n].map((at) => is(start + at))).toEqual([
      [true, true],
      [false, false],
      [true, true],
      [true, false],
      [true, true],
    ]);
    expect(user.isMapped(start + 4094n, 4n)).toBe(false);
    expect(() => user.read(start + 8190n, 4)).toThrow("EFAULT");
    expect(() => user.write(start + 12288n, Uint8Array.of(1))).toThrow("EFAULT");
    expect(user.mappedParts(0n, 2n ** 64n)).toEqual([
      { start, end: start + 4096n },
      { start: start + 8192n, end },
    ]);
    expect(user.mappedParts(start + 5000n, start + 6000n)).toEqual([]);
  });
});
