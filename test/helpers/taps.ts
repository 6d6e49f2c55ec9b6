// Network interfaces for tests that run as root: made by name, and gone at the end.

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { afterAll, test } from "vitest";
import { check, closeFd, libc, libcIfAny } from "#dist/linux/libc.js";
import { GUEST_REQUIRED } from "../guest/requirements.js";
import { describeWith, type Missing, missingFile, titled } from "./skip.js";

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
/** So much may wait at a socket. */
const WAITING = Int32Array.of(64 << 20);
/** For experiments on one's own network: the host says nothing of it. IEEE 802. */
export const ETHERTYPE = 0x88b5;

/** What of this machine can't be installed is missing, if anything. */
function whatIsNotHere(): Missing {
  if (process.platform !== "linux") return "Linux";
  if (process.getuid?.() !== 0) return "root";
  return missingFile("/dev/net/tun");
}

/** What else is missing, if anything. */
function whatIsNotReady(): Missing {
  if (libcIfAny() === null) return "the package koffi";
  if (spawnSync("ip", ["-V"]).error) return "ip (package iproute2)";
  const name = nameOf("probe");
  const { status, stderr } = spawnSync("ip", ["tuntap", "add", "dev", name, "mode", "tap"]);
  if (status !== 0) return `an interface: ${String(stderr).trim()}`;
  ip("link", "del", name);
  return undefined;
}

let seen: { notHere: Missing; notReady: Missing } | undefined;

/** Looks once. */
function whatIsMissing() {
  const notHere = whatIsNotHere();
  return { notHere, notReady: notHere === undefined ? whatIsNotReady() : undefined };
}

/**
 * A suite with interfaces; else it is skipped, and its name says why. Root, where /dev/net/tun is,
 * is to have all else: with `VHOST_WASM_REQUIRE_GUEST=1` the suite fails then. Where that device
 * is not, as in many a container, nobody can put it there, and the suite is skipped in any case.
 */
export function describeTaps(name: string, body: () => void): void {
  seen ??= whatIsMissing();
  const { notHere, notReady } = seen;
  const missing = notHere ?? notReady;
  if (notReady !== undefined && GUEST_REQUIRED) {
    test(titled(name, missing), () => {
      throw new Error("VHOST_WASM_REQUIRE_GUEST=1, /dev/net/tun and root, but not that");
    });
    return;
  }
  if (missing !== undefined) console.warn(`skipped: ${titled(name, missing)}`);
  describeWith(missing, name, () => {
    afterAll(removeAll);
    body();
  });
}

/** Runs ip(8). Throws what it says. */
export function ip(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync("ip", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${args.join(" ")}: ${stderr}`);
  return stdout;
}

let count = 0;
const names: string[] = [];

const nameOf = (what: string) => `vw${process.pid.toString(36)}${what}`;

/** A name that no other test has; an interface of it is removed at the end. */
export function tapName(): string {
  const name = nameOf(`x${count++}`);
  names.push(name);
  return name;
}

/** Removes what is left of the interfaces. */
export function removeAll(): void {
  for (const name of names.splice(0)) if (hasInterface(name)) ip("link", "del", name);
}

/** Whether there is an interface of that name. */
export const hasInterface = (name: string) => existsSync(`/sys/class/net/${name}`);

/** Brings it up, without a word of its own of IPv6. `address`: "198.18.1.1/24", say. */
export function bringUp(name: string, address?: string): void {
  const quiet = `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`;
  if (existsSync(quiet)) writeFileSync(quiet, "1");
  if (address !== undefined) ip("addr", "add", address, "dev", name);
  ip("link", "set", name, "up");
}

/** The first three numbers of a network that is for measurements alone (RFC 2544), by process. */
export const NETWORK = `198.18.${process.pid % 250}`;

/** Whether this system has bridges, and this user may make one. */
export function hasBridges(): boolean {
  const name = nameOf("bridge");
  const { status } = spawnSync("ip", ["link", "add", name, "type", "bridge"]);
  if (status === 0) ip("link", "del", name);
  return status === 0;
}

/** How many descriptors this program has. */
export const fdCount = () => readdirSync("/proc/self/fd").length;

/** Frames of ETHERTYPE as the host sends and gets them at an interface. Linux: packet(7). */
export class PacketSocket {
  readonly #fd: number;
  readonly #frame = Buffer.alloc(1 << 17);

  constructor(name: string) {
    const type = ETHERTYPE;
    const swapped = ((type & 0xff) << 8) | (type >>> 8);
    const socket = libc().socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, swapped);
    this.#fd = check(socket, "no packet socket");
    const isSet = libc().setsockopt(this.#fd, SOL_SOCKET, SO_RCVBUFFORCE, WAITING, 4);
    check(isSet, "no room for packets");
    const address = Buffer.alloc(20);
    address.writeUInt16LE(AF_PACKET, 0);
    address.writeUInt16BE(type, 2);
    address.writeInt32LE(Number(/^(\d+):/.exec(ip("-o", "link", "show", "dev", name))?.[1]), 4);
    check(libc().bind(this.#fd, address, address.length), `can't bind to ${name}`);
  }

  /** False: the interface's queue is full, or it is not up. */
  send(frame: Uint8Array): boolean {
    return libc().write(this.#fd, frame, frame.length) === frame.length;
  }

  /** The next frame; `undefined`: none has come. */
  receive(): Buffer | undefined {
    const bytes = libc().read(this.#fd, this.#frame, this.#frame.length);
    return bytes < 0 ? undefined : Buffer.from(this.#frame.subarray(0, bytes));
  }

  [Symbol.dispose](): void {
    closeFd(this.#fd);
  }
}
