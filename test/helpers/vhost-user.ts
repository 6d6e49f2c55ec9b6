// Servers and front-ends for tests of the vhost-user back-end, and what is left of them.

import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { FrontEnd } from "#dist/bench/front-end.js";
import { blk } from "#dist/devices/blk.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { PID_MAX_LIMIT } from "#dist/spec/sched.js";
import type { VhostUserEvent } from "#dist/vhost-user/events.js";
import {
  type ServeOptions,
  serveVhostUser,
  type VhostUserServer,
} from "#dist/vhost-user/server.js";
import { describeWith, missingLibc } from "./skip.js";
import { liveThreads } from "./threads.js";
import { FrontDisk } from "./vhost-user-disk.js";

/** Bytes one after another. */
export const joined = (...parts: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

/** A suite that needs Linux and koffi; elsewhere it is skipped, and its name says why. */
export function describeVhostUser(name: string, body: () => void): void {
  describeWith(missingLibc(), name, body);
}

/** Waits until `test` holds, with a look every few milliseconds; fails after a long time. */
export async function eventually(
  test: () => boolean,
  what: string | (() => string),
  ms = 20_000,
): Promise<void> {
  for (const end = performance.now() + ms; !test(); await sleep(2)) {
    if (performance.now() <= end) continue;
    throw new Error(`${typeof what === "string" ? what : what()}: not within ${ms} ms`);
  }
}

type Named<N extends VhostUserEvent["event"]> = Extract<VhostUserEvent, { event: N }>;

/** The disk that is served when a test names none. */
export const DISK_BYTES = 1 << 20;
export const QUEUES = 4;
export const QUEUE_SIZE_MAX = 1024;
const disk = () =>
  blk({ memoryBytes: DISK_BYTES, queues: QUEUES, queueSize: QUEUE_SIZE_MAX, id: "test" });

/** A good front-end comes, writes, reads what it wrote, and goes. */
export async function useDisk(path: string): Promise<void> {
  using front = new FrontEnd(path);
  await front.negotiate(~0n);
  await front.setMemory();
  const drive = new FrontDisk(front, await front.startQueue(0, 64));
  const bytes = new Uint8Array(512).map(() => Math.random() * 256);
  await drive.write(0, bytes);
  expect(await drive.read(0, 512)).toEqual(bytes);
}

/** A server in a folder of its own, and what it has told so far. */
export class Served implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
  readonly path = join(this.folder, "socket");
  readonly kernel = new Kernel({ pidMax: PID_MAX_LIMIT });
  readonly events: VhostUserEvent[] = [];
  server!: VhostUserServer;
  #next = 0;

  /** Listens; what is left out of `options` has a default. */
  static async start(options: Partial<ServeOptions> = {}): Promise<Served> {
    const served = new Served();
    const { kernel, path: socketPath } = served;
    const onEvent = (event: VhostUserEvent) => void served.events.push(event);
    const common = { kernel, socketPath, onEvent, pollMicroseconds: 0 };
    served.server = await serveVhostUser({ device: disk(), ...common, ...options });
    return served;
  }

  /** The next event of that name: of those after the one that was asked for last. */
  async next<N extends VhostUserEvent["event"]>(name: N): Promise<Named<N>> {
    const find = () => this.events.findIndex((one, i) => i >= this.#next && one.event === name);
    await eventually(
      () => find() >= 0,
      () => `event ${name} (${this.events.map(toName)})`,
    );
    this.#next = find() + 1;
    return this.events[this.#next - 1] as Named<N>;
  }

  /** Waits until nobody is connected; what was told so far is forgotten by `next`. */
  async idle(): Promise<void> {
    const isIdle = () => this.all("connected").length === this.all("disconnected").length;
    await eventually(isIdle, "all front-ends gone");
    this.#next = this.events.length;
  }

  /** Events of that name, all that came. */
  all<N extends VhostUserEvent["event"]>(name: N): Named<N>[] {
    return this.events.filter((one): one is Named<N> => one.event === name);
  }

  /** A front-end, which has said nothing yet. */
  connect(memoryBytes?: number): FrontEnd {
    return new FrontEnd(this.path, memoryBytes);
  }

  /** One that has accepted all features and handed over its memory. */
  async ready(features = ~0n): Promise<FrontEnd> {
    const front = this.connect();
    await front.negotiate(features);
    await front.setMemory();
    return front;
  }

  /** A good front-end must find all well. */
  async works(): Promise<void> {
    const connected = this.all("connected").length;
    await useDisk(this.path);
    await eventually(() => this.all("disconnected").length > connected, "disconnected");
    expect(this.events.at(-1)).not.toHaveProperty("error");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server?.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

const toName = ({ event }: VhostUserEvent) => event;

/** What a program holds: descriptors by kind, mappings of memory files, threads, tasks. */
export interface Held {
  fds: Record<string, number>;
  maps: number;
  threads: number;
  tasks: number;
}

/** Kind of a descriptor, by what it is a link to; what the test runner opens is none of ours. */
function kindOf(fd: string): string | undefined {
  try {
    const target = readlinkSync(`/proc/self/fd/${fd}`);
    if (target.startsWith("/")) return /memfd|vhost-wasm-test/.exec(target)?.[0];
    return target.replace(/:\[?(\w+)\]?$/, (_, name) => (/^\d+$/.test(name) ? "" : ` ${name}`));
  } catch {
    return undefined; // the one that lists the folder
  }
}

/** What this program holds now. */
export function held(kernel: Kernel): Held {
  const fds: Record<string, number> = {};
  for (const fd of readdirSync("/proc/self/fd")) {
    const kind = kindOf(fd);
    if (kind) fds[kind] = (fds[kind] ?? 0) + 1;
  }
  const maps = readFileSync("/proc/self/maps", "utf8").split("\n");
  return {
    fds,
    maps: maps.filter((line) => line.includes("memfd:")).length,
    threads: liveThreads().length,
    tasks: kernel.tasks().length,
  };
}

/** Whether it is no more of anything than that. */
function isWithin({ fds, ...now }: Held, before: Held): boolean {
  const counts = Object.entries(now) as [keyof typeof now, number][];
  const isMore = (kind: string) => (fds[kind] as number) > (before.fds[kind] ?? 0);
  return counts.every(([what, count]) => count <= before[what]) && !Object.keys(fds).some(isMore);
}

/**
 * Waits until all is given back that was not held before. It may be less: a thread that was to end
 * may have had no core yet as that was looked at.
 */
export async function expectGivenBack(kernel: Kernel, before: Held): Promise<void> {
  const isBack = () => isWithin(held(kernel), before);
  await eventually(isBack, "all given back").catch(() => {});
  const now = held(kernel);
  if (!isWithin(now, before)) expect(now).toEqual(before);
}

/** What is held when nothing changes any more: threads take a moment to end. */
export async function settled(kernel: Kernel): Promise<Held> {
  let seen = held(kernel);
  for (let same = 0; same < 5; ) {
    await sleep(20);
    const now = held(kernel);
    same = JSON.stringify(now) === JSON.stringify(seen) ? same + 1 : 0;
    seen = now;
  }
  return seen;
}

/** Threads that begin when they are needed first are there after this. */
export async function warmUp(served: Served): Promise<Held> {
  await Promise.all(Array.from({ length: 8 }, () => stat("/")));
  await served.works();
  await eventually(() => served.kernel.tasks().length === 2, "the first session is over");
  return settled(served.kernel);
}

/** Sends what the back-end may end the connection for before it is all sent. */
export function sendUntilGone(send: () => void): void {
  try {
    send();
  } catch (error) {
    if ((error as { code?: string }).code !== "EPIPE") throw error;
  }
}
