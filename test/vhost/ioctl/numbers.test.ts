// The numbers of the ioctls: by the rule that encodes them, and as the system's header has them.

import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { VHOST_REQUESTS, type VhostStruct } from "#dist/spec/vhost.js";
import { describeWith, missingFile } from "../../helpers/skip.js";

// ioctl(2): direction in bits 30 and 31, size from bit 16, type from bit 8, number.
const io = (direction: number, nr: number, size: number) =>
  ((direction << 30) | (size << 16) | (0xaf << 8) | nr) >>> 0;
const DIRECTIONS = { _IO: 0, _IOW: 1, _IOR: 2, _IOWR: 3 };

const HEADERS = ["/usr/include/linux/vhost.h", "/usr/include/linux/vhost_types.h"];
/** In the header, but only of newer systems. */
const NEWER = /WORKER|FORK_FROM_OWNER/;

const SIZES: Record<string, number> = {
  __u64: 8,
  __u32: 4,
  __u8: 1,
  int: 4,
  "struct vhost_memory": 8,
  "struct vhost_vring_state": 8,
  "struct vhost_vring_file": 8,
  "struct vhost_vring_addr": 40,
  "struct vhost_worker_state": 4,
  "struct vhost_vring_worker": 8,
};

/** From include/uapi/linux/vhost.h: name, macro, number, type. */
const EXPECTED: [name: string, macro: keyof typeof DIRECTIONS, nr: number, type?: string][] = [
  ["VHOST_GET_FEATURES", "_IOR", 0x00, "__u64"],
  ["VHOST_SET_FEATURES", "_IOW", 0x00, "__u64"],
  ["VHOST_SET_OWNER", "_IO", 0x01],
  ["VHOST_RESET_OWNER", "_IO", 0x02],
  ["VHOST_SET_MEM_TABLE", "_IOW", 0x03, "struct vhost_memory"],
  ["VHOST_SET_LOG_BASE", "_IOW", 0x04, "__u64"],
  ["VHOST_SET_LOG_FD", "_IOW", 0x07, "int"],
  ["VHOST_NEW_WORKER", "_IOR", 0x08, "struct vhost_worker_state"],
  ["VHOST_FREE_WORKER", "_IOW", 0x09, "struct vhost_worker_state"],
  ["VHOST_SET_VRING_NUM", "_IOW", 0x10, "struct vhost_vring_state"],
  ["VHOST_SET_VRING_ADDR", "_IOW", 0x11, "struct vhost_vring_addr"],
  ["VHOST_SET_VRING_BASE", "_IOW", 0x12, "struct vhost_vring_state"],
  ["VHOST_GET_VRING_BASE", "_IOWR", 0x12, "struct vhost_vring_state"],
  ["VHOST_SET_VRING_ENDIAN", "_IOW", 0x13, "struct vhost_vring_state"],
  ["VHOST_GET_VRING_ENDIAN", "_IOW", 0x14, "struct vhost_vring_state"],
  ["VHOST_ATTACH_VRING_WORKER", "_IOW", 0x15, "struct vhost_vring_worker"],
  ["VHOST_GET_VRING_WORKER", "_IOWR", 0x16, "struct vhost_vring_worker"],
  ["VHOST_SET_VRING_KICK", "_IOW", 0x20, "struct vhost_vring_file"],
  ["VHOST_SET_VRING_CALL", "_IOW", 0x21, "struct vhost_vring_file"],
  ["VHOST_SET_VRING_ERR", "_IOW", 0x22, "struct vhost_vring_file"],
  ["VHOST_SET_VRING_BUSYLOOP_TIMEOUT", "_IOW", 0x23, "struct vhost_vring_state"],
  ["VHOST_GET_VRING_BUSYLOOP_TIMEOUT", "_IOW", 0x24, "struct vhost_vring_state"],
  ["VHOST_SET_BACKEND_FEATURES", "_IOW", 0x25, "__u64"],
  ["VHOST_GET_BACKEND_FEATURES", "_IOR", 0x26, "__u64"],
  ["VHOST_NET_SET_BACKEND", "_IOW", 0x30, "struct vhost_vring_file"],
  ["VHOST_VSOCK_SET_GUEST_CID", "_IOW", 0x60, "__u64"],
  ["VHOST_VSOCK_SET_RUNNING", "_IOW", 0x61, "int"],
  ["VHOST_SET_FORK_FROM_OWNER", "_IOW", 0x84, "__u8"],
  ["VHOST_GET_FORK_FROM_OWNER", "_IOR", 0x85, "__u8"],
];

const numbers = new Map(VHOST_REQUESTS.map(({ name, request }) => [name, request]));

test("every request is here, once, under a number of its own", () => {
  expect([...numbers.keys()].sort()).toEqual(EXPECTED.map(([name]) => name).sort());
  expect(new Set(numbers.values()).size).toBe(EXPECTED.length);
});

test.each(EXPECTED)("%s is %s(0xaf, %i, %s)", (name, macro, nr, type) => {
  const size = type === undefined ? 0 : SIZES[type];
  expect(numbers.get(name)).toBe(io(DIRECTIONS[macro], nr, size as number));
});

const isWhole = ({ bytes, fields }: VhostStruct) => {
  const width = { u8: 1, u32: 4, s32: 4, u64: 8 };
  const ends = Object.values(fields).map(([at, type]) => at + width[type]);
  return (
    Math.max(...ends) === bytes &&
    Object.values(fields).every(([at, type]) => at % width[type] === 0)
  );
};

test("a struct is as long as its last field, and its number says so", () => {
  for (const { name, request, struct } of VHOST_REQUESTS) {
    expect((request >>> 16) & 0x3fff, name).toBe(struct?.bytes ?? 0);
    if (struct) expect(isWhole(struct), name).toBe(true);
  }
});

describeWith(missingFile(...HEADERS), "the system's header", () => {
  const text = HEADERS.filter(existsSync)
    .map((file) => readFileSync(file, "utf8").replaceAll("\\\n", " "))
    .join("\n");
  const macro = /^#define (VHOST_\w+)\s+(_IO\w*)\(VHOST_VIRTIO,\s*(0x\w+)(?:,\s*([\w ]+?))?\s*\)/gm;
  const defined = [...text.matchAll(macro)].map(([, name, how, nr, type]) => ({
    name: name as string,
    number: io(
      DIRECTIONS[how as keyof typeof DIRECTIONS],
      Number(nr),
      type === undefined ? 0 : (SIZES[type] ?? Number.NaN),
    ),
  }));

  test("has the same numbers", () => {
    const ours = defined.filter(({ name }) => numbers.has(name));
    expect(ours.length).toBeGreaterThanOrEqual(20);
    for (const { name, number } of ours) expect(numbers.get(name), name).toBe(number);
  });

  test("has all of them, but for those of newer systems", () => {
    const names = new Set(defined.map(({ name }) => name));
    const missing = [...numbers.keys()].filter((name) => !names.has(name) && !NEWER.test(name));
    expect(missing).toEqual([]);
  });
});
