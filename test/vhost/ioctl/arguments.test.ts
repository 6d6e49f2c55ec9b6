// Each ioctl with each argument wrong in each way: which errno, and nothing changed by it. Where no
// record of a real kernel says the errno, the order of its checks does: EPERM, EFAULT for the first
// four bytes, ENOBUFS, then what the ioctl tests itself.

import { describe, expect, test } from "vitest";
import { OpenFile } from "#dist/kernel/files.js";
import { VHOST_REQUESTS, type VhostRequest } from "#dist/spec/vhost.js";
import type { IoctlValues } from "#dist/vhost/ioctl/front.js";
import type { VhostKind } from "#dist/vhost/ioctl/state.js";
import {
  type Caller,
  IoctlLab,
  KERNEL_ADDRESS,
  KINDS,
  QUEUES,
  UNMAPPED,
} from "../../helpers/ioctl.js";

const U32_MAX = 0xffff_ffff;
/** Of those, a device without them takes the argument for a ring's. */
const WORKERS = /_(NEW|FREE)_WORKER$|VRING_WORKER$/;
const ENDIAN = /ENDIAN$/;

/** An owned device, rings set up by one struct each; `start`: vsock, running. */
function owned(kind: VhostKind, isRunning = false) {
  const lab = new IoctlLab();
  const { fd, file } = lab.open(kind);
  const call = (name: string, values: IoctlValues = {}) => lab.call(lab.owner, fd, name, values);
  expect(call("VHOST_SET_OWNER")).toBe("OK");
  if (isRunning) run(lab, call);
  const refused = (expected: string, act: () => string) => {
    const before = lab.snapshot(file.state);
    expect(act()).toBe(expected);
    expect(lab.snapshot(file.state)).toEqual(before);
  };
  return { lab, fd, file, call, refused };
}

/** Rings in memory, and started. */
function run(lab: IoctlLab, call: (name: string, values?: IoctlValues) => string): void {
  const start = BigInt(lab.shared.guestStart);
  const memory_size = BigInt(lab.shared.guestBytes);
  const region = { guest_phys_addr: start, memory_size, userspace_addr: start };
  const results = [call("VHOST_SET_MEM_TABLE", { regions: [region] })];
  for (const index of [0, 1]) {
    const at = BigInt(lab.shared.allocGuest(12288, 4096));
    const areas = { desc_user_addr: at, avail_user_addr: at + 4096n, used_user_addr: at + 8192n };
    results.push(call("VHOST_SET_VRING_NUM", { index, num: 8 }));
    results.push(call("VHOST_SET_VRING_ADDR", { index, ...areas }));
  }
  results.push(call("VHOST_VSOCK_SET_RUNNING", { value: 1 }));
  expect(new Set(results)).toEqual(new Set(["OK"]));
}

const isVring = ({ name }: VhostRequest) => /VRING/.test(name) && !WORKERS.test(name);

describe.each(KINDS)("pointers: vhost-%s", (kind) => {
  /** Not looked at: what is tested before, or needs none. */
  const before: Record<string, string> = {
    VHOST_SET_OWNER: "EBUSY",
    VHOST_SET_FORK_FROM_OWNER: "EBUSY",
  };
  const requests = VHOST_REQUESTS.filter(({ name }) => {
    if (kind === "net" && name === "VHOST_RESET_OWNER") return false;
    return !(kind === "scsi" && name === "VHOST_NEW_WORKER"); // see below
  });

  test.each(requests)("$name, everything unreadable", ({ name, request }) => {
    const { lab, fd, refused } = owned(kind);
    const { guestStart, guestBytes } = lab.shared;
    const end = BigInt(guestStart + guestBytes);
    const expected = before[name] ?? "EFAULT";
    for (const arg of [0n, 1n, UNMAPPED, KERNEL_ADDRESS, 2n ** 64n - 4n, end]) {
      refused(expected, () => lab.raw(lab.owner, fd, request, arg));
    }
  });

  const long = requests.filter(({ name, struct }) => !before[name] && (struct?.bytes ?? 0) > 4);
  test.each(long)("$name, the first four bytes readable", (one) => {
    const { name, request, struct } = one;
    const { lab, fd, refused } = owned(kind);
    const { guestStart, guestBytes } = lab.shared;
    const arg = BigInt(guestStart + guestBytes - 4); // index 0, or whatever it is
    const isAbsent =
      ENDIAN.test(name) ||
      (WORKERS.test(name) && kind !== "scsi") ||
      (name === "VHOST_NET_SET_BACKEND" && kind !== "net") ||
      (/VSOCK/.test(name) && kind !== "vsock") ||
      (/BACKEND_FEATURES/.test(name) && kind === "scsi");
    expect(struct?.bytes).toBeGreaterThan(4);
    refused(isAbsent ? "ENOTTY" : "EFAULT", () => lab.raw(lab.owner, fd, request, arg));
  });
});

test("a worker whose number can't be told is there nevertheless, until the close", () => {
  const { lab, call, fd, file } = owned("scsi");
  const { request } = VHOST_REQUESTS.find(
    ({ name }) => name === "VHOST_NEW_WORKER",
  ) as VhostRequest;
  expect(lab.raw(lab.owner, fd, request, 0n)).toBe("EFAULT");
  expect(file.state.workers.ids).toEqual([0, 1]);
  expect(call("VHOST_FREE_WORKER", { worker_id: 1 })).toBe("OK");
});

/** Who may: what each gets from an owned device that is not his. */
function ofAStranger(kind: VhostKind, name: string): string {
  if (/_FEATURES$/.test(name) && (kind !== "scsi" || !/BACKEND/.test(name))) return "OK";
  if (name === "VHOST_GET_FORK_FROM_OWNER") return "OK";
  if (name === "VHOST_SET_OWNER" || name === "VHOST_SET_FORK_FROM_OWNER") return "EBUSY";
  if (name === "VHOST_VSOCK_SET_GUEST_CID" && kind === "vsock") return "OK";
  return "EPERM";
}

const VALUES: Record<string, IoctlValues> = {
  VHOST_SET_VRING_NUM: { num: 8 },
  VHOST_SET_MEM_TABLE: { regions: [] },
  VHOST_SET_LOG_FD: { value: -1 },
  VHOST_VSOCK_SET_GUEST_CID: { value: 77n },
  VHOST_SET_FORK_FROM_OWNER: { value: 1 },
};

describe.each(KINDS)("callers: vhost-%s", (kind) => {
  test.each(VHOST_REQUESTS)("$name by a forked child, and without an owner", ({ name }) => {
    const { lab, fd, file } = owned(kind);
    const child = lab.kin("child");
    const expected = ofAStranger(kind, name);
    const before = lab.snapshot(file.state);
    expect(lab.call(child, fd, name, VALUES[name])).toBe(expected);
    if (expected !== "OK") expect(lab.snapshot(file.state)).toEqual(before);
    const unowned = lab.open(kind);
    const without = lab.snapshot(unowned.file.state);
    const own = WORKERS.test(name) && kind === "scsi" ? "EINVAL" : expected.replace("EBUSY", "OK");
    expect(lab.call(lab.owner, unowned.fd, name, VALUES[name])).toBe(
      name === "VHOST_VSOCK_SET_GUEST_CID" && kind === "vsock" ? "EADDRINUSE" : own,
    );
    if (own !== "OK") expect(lab.snapshot(unowned.file.state)).toEqual(without);
  });

  test.each<Caller>(["thread", "sharer"])("a %s, which has the memory, is the owner", (caller) => {
    const { lab, fd } = owned(kind);
    const kin = lab.kin(caller);
    if (caller === "thread") kin.files = lab.owner.files;
    expect(lab.call(kin, fd, "VHOST_SET_VRING_NUM", { index: 0, num: 8 })).toBe("OK");
    expect(lab.call(kin, fd, "VHOST_SET_OWNER")).toBe("EBUSY");
  });
});

describe.each(KINDS)("rings: vhost-%s", (kind) => {
  const requests = VHOST_REQUESTS.filter((one) => isVring(one) || WORKERS.test(one.name)).filter(
    ({ name }) => kind !== "scsi" || /VRING/.test(name),
  );
  test.each(requests)("$name of a ring that there is not", ({ name }) => {
    const { call, refused } = owned(kind);
    const n = QUEUES[kind];
    for (const index of [n, n + 1, 0x8000_0000, U32_MAX]) {
      const field = /_(NEW|FREE)_WORKER$/.test(name) ? "worker_id" : "index";
      refused("ENOBUFS", () => call(name, { [field]: index }));
    }
  });

  test.each([0, 3, 5, 6, 32767, 32769, 65535, 65536, 0x8000_0000, U32_MAX])(
    "no size: %i",
    (num) => {
      const { call, refused } = owned(kind);
      refused("EINVAL", () => call("VHOST_SET_VRING_NUM", { index: 0, num }));
    },
  );

  test.each([65536, 65537, 0x8000_0000, U32_MAX])("no base: %i", (num) => {
    const { call, refused } = owned(kind);
    refused("EINVAL", () => call("VHOST_SET_VRING_BASE", { index: 0, num }));
  });

  test.each(["KICK", "CALL", "ERR"])("%s: what is no eventfd, and no descriptor", (which) => {
    const { lab, call, fd, refused } = owned(kind);
    const set = (number: number) => call(`VHOST_SET_VRING_${which}`, { index: 0, fd: number });
    const other = lab.install(new OpenFile(() => {}));
    for (const number of [-2, -0x8000_0000, 999, 0x7fff_ffff]) refused("EBADF", () => set(number));
    for (const number of [fd, other]) refused("EINVAL", () => set(number));
  });

  test("the eventfd of the log: the same", () => {
    const { call, fd, refused } = owned(kind);
    for (const value of [-2, 999]) refused("EBADF", () => call("VHOST_SET_LOG_FD", { value }));
    refused("EINVAL", () => call("VHOST_SET_LOG_FD", { value: fd }));
  });

  test.each([
    ["avail at an odd address", { avail_user_addr: 4097n }, "EINVAL"],
    ["used at 2 modulo 4", { used_user_addr: 4098n }, "EINVAL"],
    ["log at 2 modulo 4, though nothing is logged", { log_guest_addr: 2n }, "EINVAL"],
    ["another flag", { flags: 2 }, "EOPNOTSUPP"],
    ["another flag, before all else", { flags: 4, used_user_addr: 1n }, "EOPNOTSUPP"],
    ["the highest flag", { flags: 0x8000_0001 }, "EOPNOTSUPP"],
  ])("where a ring can't be: %s", (_, more, expected) => {
    const { call, refused } = owned(kind);
    refused(expected, () => call("VHOST_SET_VRING_ADDR", { index: 0, ...more }));
  });
});

describe("memory tables", () => {
  const region = (guest_phys_addr: bigint, memory_size: bigint, userspace_addr = 0n) => {
    return { guest_phys_addr, memory_size, userspace_addr };
  };

  test.each([
    ["empty, not at 0", [region(4096n, 0n)]],
    ["past 2^64", [region(2n ** 64n - 4096n, 4097n)]],
    ["the last one bad", [region(0n, 4096n), region(2n ** 63n, 2n ** 63n + 1n)]],
  ])("a region is %s", (_, regions) => {
    const { call, refused } = owned("vsock");
    call("VHOST_SET_MEM_TABLE", { regions: [region(0n, 65536n)] });
    refused("EFAULT", () => call("VHOST_SET_MEM_TABLE", { regions }));
  });

  test("64 regions, and not one more; padding comes before their number", () => {
    const { lab, call, file, refused } = owned("vsock");
    const many = (count: number) =>
      Array.from({ length: count }, (_, i) => region(BigInt(i) << 20n, 4096n));
    expect(call("VHOST_SET_MEM_TABLE", { regions: many(64) })).toBe("OK");
    expect(file.state.regions).toHaveLength(64);
    refused("E2BIG", () => call("VHOST_SET_MEM_TABLE", { regions: many(65) }));
    refused("E2BIG", () => call("VHOST_SET_MEM_TABLE", { nregions: U32_MAX }));
    refused("EOPNOTSUPP", () => call("VHOST_SET_MEM_TABLE", { nregions: U32_MAX, padding: 1 }));
    expect(lab.shared.guestBytes).toBeGreaterThan(0);
  });

  test("what is accepted: overlaps, all of 2^64, none, what the program has not", () => {
    const { call, file } = owned("vsock");
    for (const regions of [
      [region(0n, 4096n), region(0n, 4096n)],
      [region(0n, 0n)],
      [],
      [region(0n, 2n ** 64n - 1n, KERNEL_ADDRESS)],
    ]) {
      expect(call("VHOST_SET_MEM_TABLE", { regions })).toBe("OK");
    }
    expect(file.state.regions).toHaveLength(1);
  });

  test("the struct may end before its regions do", () => {
    const { lab, fd, refused } = owned("vsock");
    const { guestStart, guestBytes, view } = lab.shared;
    const at = guestStart + guestBytes - 8 - 32;
    view.setUint32(at, 2, true);
    const request = VHOST_REQUESTS.find(({ name }) => name === "VHOST_SET_MEM_TABLE");
    const set = () => lab.raw(lab.owner, fd, request?.request ?? 0, BigInt(at));
    refused("EFAULT", set);
    view.setUint32(at, 1, true);
    view.setBigUint64(at + 16, 4096n, true);
    expect(set()).toBe("OK");
  });
});

describe("features", () => {
  const OFFERED = { vsock: 0x33d000002n, net: 0x1033d008000n, scsi: 0x13d00000an };
  test.each(KINDS)("of vhost-%s: each bit that is not offered is refused", (kind) => {
    const { call, refused } = owned(kind);
    for (let bit = 0n; bit < 64n; bit++) {
      const value = 1n << bit;
      const set = () => call("VHOST_SET_FEATURES", { value });
      if (OFFERED[kind] & value) expect(set()).toBe("OK");
      else refused("EOPNOTSUPP", set);
    }
  });

  test.each(["vsock", "net"] as const)("of the back-end of vhost-%s", (kind) => {
    const { call, refused } = owned(kind);
    for (let bit = 0n; bit < 64n; bit++) {
      const set = () => call("VHOST_SET_BACKEND_FEATURES", { value: 1n << bit });
      if (bit === 1n) expect(set()).toBe("OK");
      else refused("EOPNOTSUPP", set);
    }
  });
});

describe("the mode of the workers", () => {
  test.each(KINDS)("of vhost-%s: 0 and 1, and only without an owner", (kind) => {
    const lab = new IoctlLab();
    const { fd, file } = lab.open(kind);
    for (let value = 0; value < 256; value++) {
      const before = lab.snapshot(file.state);
      const result = lab.call(lab.owner, fd, "VHOST_SET_FORK_FROM_OWNER", { value });
      expect(result).toBe(value < 2 ? "OK" : "EINVAL");
      if (value >= 2) expect(lab.snapshot(file.state)).toEqual(before);
    }
  });
});

describe("a ring that runs", () => {
  test("keeps size and base, whatever is wrong besides; may be moved, and its log", () => {
    const { lab, fd, call, refused } = owned("vsock", true);
    const { guestStart, guestBytes } = lab.shared;
    const edge = BigInt(guestStart + guestBytes - 4);
    for (const name of ["VHOST_SET_VRING_NUM", "VHOST_SET_VRING_BASE"]) {
      refused("EBUSY", () => call(name, { index: 0, num: 8 }));
      refused("EBUSY", () => call(name, { index: 1, num: U32_MAX }));
      const { request = 0 } = VHOST_REQUESTS.find((one) => one.name === name) ?? {};
      refused("EBUSY", () => lab.raw(lab.owner, fd, request, edge));
      refused("ENOBUFS", () => call(name, { index: 2, num: 8 }));
    }
    for (const area of ["desc_user_addr", "avail_user_addr", "used_user_addr"]) {
      const at = { index: 0, [area]: KERNEL_ADDRESS };
      refused("EINVAL", () => call("VHOST_SET_VRING_ADDR", at));
    }
    const far = { index: 0, flags: 1, log_guest_addr: 2n ** 63n };
    refused("EINVAL", () => call("VHOST_SET_VRING_ADDR", far));
    const whole = { guest_phys_addr: 0n, memory_size: 4096n, userspace_addr: KERNEL_ADDRESS };
    refused("EFAULT", () => call("VHOST_SET_MEM_TABLE", { regions: [whole] }));
  });

  test("a start that fails stops all of them, and leaves nothing behind", () => {
    const { lab, call, file } = owned("vsock", true);
    call("VHOST_VSOCK_SET_RUNNING", { value: 0 });
    const before = lab.snapshot(file.state);
    const [, second] = file.state.vqs;
    const { areas } = second ?? expect.fail("no ring");
    expect(call("VHOST_SET_VRING_ADDR", { index: 1, used_user_addr: 4096n })).toBe("OK");
    expect(call("VHOST_VSOCK_SET_RUNNING", { value: 1 })).toBe("EFAULT");
    const back = { desc_user_addr: areas.desc, avail_user_addr: areas.avail };
    call("VHOST_SET_VRING_ADDR", { index: 1, ...back, used_user_addr: areas.used });
    expect(lab.snapshot(file.state)).toEqual(before);
  });
});

describe("workers of vhost-scsi", () => {
  test("numbers that there are not, workers that have rings", () => {
    const { call, refused } = owned("scsi");
    for (const worker_id of [1, 2, U32_MAX]) {
      refused("ENODEV", () => call("VHOST_FREE_WORKER", { worker_id }));
      refused("ENODEV", () => call("VHOST_ATTACH_VRING_WORKER", { index: 0, worker_id }));
      refused("ENOBUFS", () => call("VHOST_ATTACH_VRING_WORKER", { index: 130, worker_id }));
    }
    refused("EBUSY", () => call("VHOST_FREE_WORKER", { worker_id: 0 }));
  });

  test("kernel threads come alone", () => {
    const lab = new IoctlLab();
    const { fd, file } = lab.open("scsi");
    lab.call(lab.owner, fd, "VHOST_SET_FORK_FROM_OWNER", { value: 0 });
    lab.call(lab.owner, fd, "VHOST_SET_OWNER");
    const before = lab.snapshot(file.state);
    expect(lab.call(lab.owner, fd, "VHOST_NEW_WORKER")).toBe("EFAULT");
    expect(lab.snapshot(file.state)).toEqual(before);
  });

  test("one that was killed: its rings have none, it can't be freed", () => {
    const { lab, call, file, refused } = owned("scsi");
    const [task] = file.state.workers.tasks;
    lab.kernel.exitTask(task ?? expect.fail("no worker"), 9);
    expect(call("VHOST_GET_VRING_WORKER", { index: 0 })).toBe("EINVAL");
    refused("EBUSY", () => call("VHOST_FREE_WORKER", { worker_id: 0 }));
    expect(call("VHOST_ATTACH_VRING_WORKER", { index: 0, worker_id: 0 })).toBe("OK");
    refused("EINVAL", () => call("VHOST_GET_VRING_WORKER", { index: 0 }));
  });
});

describe("CIDs", () => {
  test.each([0n, 1n, 2n, 0xffff_ffffn, 2n ** 32n, 2n ** 64n - 1n])("not %d", (value) => {
    const { call, refused } = owned("vsock");
    call("VHOST_VSOCK_SET_GUEST_CID", { value: 42n });
    refused("EINVAL", () => call("VHOST_VSOCK_SET_GUEST_CID", { value }));
  });

  test("one is one device's, until it is closed or has another", () => {
    const { lab, call, refused } = owned("vsock");
    const other = lab.open("vsock");
    const set = (value: bigint) =>
      lab.call(lab.owner, other.fd, "VHOST_VSOCK_SET_GUEST_CID", { value });
    expect(set(42n)).toBe("OK");
    refused("EADDRINUSE", () => call("VHOST_VSOCK_SET_GUEST_CID", { value: 42n }));
    expect([set(42n), set(43n)]).toEqual(["OK", "OK"]);
    expect(call("VHOST_VSOCK_SET_GUEST_CID", { value: 42n })).toBe("OK");
    other.file.put();
    expect(call("VHOST_VSOCK_SET_GUEST_CID", { value: 43n })).toBe("OK");
  });
});

test("descriptors: EBADF for none, ENOTTY for another file", () => {
  const { lab, refused } = owned("vsock");
  const other = lab.install(new OpenFile(() => {}));
  refused("EBADF", () => lab.call(lab.owner, 999, "VHOST_SET_OWNER"));
  refused("ENOTTY", () => lab.call(lab.owner, other, "VHOST_SET_OWNER"));
});
