// Every ioctl of a vhost device, with plain valid arguments.

import type { Proc, Seen } from "./machine/index.js";

type Arg = Parameters<Proc["ioctl"]>[2];

/** What each does to `fd`, in this order, by the names that the records have. */
export function everyIoctl(main: Proc, fd: number, reset?: string): Seen {
  const { rx: ring } = main.mapVsockRings();
  const at = (more: object): Arg => ({ index: 0, ...more });
  const mode = { value: -1 };
  const calls: [name: string, arg: Arg, seenAs?: string][] = [
    ["GET_FEATURES", {}],
    ["SET_FEATURES", 0n, "SET_FEATURES_0"],
    ["GET_BACKEND_FEATURES", {}],
    ["SET_BACKEND_FEATURES", 0n, "SET_BACKEND_FEATURES_0"],
    ["SET_MEM_TABLE", {}],
    ["SET_LOG_BASE", 0],
    ["SET_LOG_FD", -1],
    ["SET_VRING_NUM", at({ num: 8 })],
    ["SET_VRING_BASE", at({ num: 0 })],
    ["GET_VRING_BASE", at({ num: 0 })],
    ["SET_VRING_ADDR", at({ ring })],
    ["SET_VRING_KICK", at({ ring })],
    ["SET_VRING_CALL", at({ ring })],
    ["SET_VRING_ERR", at({ ring })],
    ["SET_VRING_ENDIAN", at({ num: 0 })],
    ["GET_VRING_ENDIAN", at({ num: 0 })],
    ["SET_VRING_BUSYLOOP_TIMEOUT", at({ num: 5 })],
    ["GET_VRING_BUSYLOOP_TIMEOUT", at({ num: 0 })],
    ["NEW_WORKER", {}],
    ["FREE_WORKER", { worker_id: 0 }, "FREE_WORKER_0"],
    ["ATTACH_VRING_WORKER", at({ worker_id: 0 }), "ATTACH_VRING_WORKER_0_0"],
    ["GET_VRING_WORKER", at({}), "GET_VRING_WORKER_0"],
    ["GET_FORK_FROM_OWNER", mode],
    ["SET_FORK_FROM_OWNER", 1, "SET_FORK_FROM_OWNER_1"],
  ];
  const seen: Seen = {};
  for (const [name, arg, seenAs] of calls)
    seen[seenAs ?? name] = main.ioctl(fd, `VHOST_${name}`, arg);
  seen.fork_from_owner_value = mode.value;
  seen.unknown_0x7f = main.ioctl(fd, "0xaf7f", {});
  seen.foreign_magic = main.ioctl(fd, "0x1234", {});
  if (reset !== undefined) seen[reset] = main.ioctl(fd, "VHOST_RESET_OWNER");
  return seen;
}
