// What a front-end should not send: descriptors of the wrong kind, and a way to see that it was
// refused, told once, and that nothing is left of it.

import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { type FrontEnd, makeMemfd, type RequestName } from "#dist/bench/front-end.js";
import { makeEventfd } from "#dist/linux/eventfd.js";
import { closeFd, libc } from "#dist/linux/libc.js";
import { VHOST_USER_NEED_REPLY, VHOST_USER_VERSION } from "#dist/spec/vhost-user.js";
import { expectGivenBack, type Held, Served, warmUp } from "./vhost-user.js";

/** A function of the C library that the product has no use for. */
export function nativeCall(prototype: string): (...args: unknown[]) => number {
  const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
  return koffi.load(null).func(prototype);
}

/** Bytes of the file and of the memory file. */
export const FILE_BYTES = 1 << 20;

/** One descriptor of each kind that there is a wrong place for. */
export class FdKinds {
  readonly folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
  readonly #fds = new Map<string, number>();

  constructor() {
    const pipe = new Int32Array(new ArrayBuffer(8));
    nativeCall("int pipe2(void *fds, int flags)")(pipe, 0o2000000);
    const socket = nativeCall("int socket(int domain, int type, int protocol)");
    const timer = nativeCall("int timerfd_create(int clock, int flags)");
    const inotify = nativeCall("int inotify_init1(int flags)");
    const path = join(this.folder, "file");
    writeFileSync(path, new Uint8Array(FILE_BYTES));
    const kinds: Record<string, number> = {
      "pipe, to read": pipe[0] as number,
      "pipe, to write": pipe[1] as number,
      file: openSync(path, "r+"),
      folder: openSync(this.folder, "r"),
      "/dev/null": openSync("/dev/null", "r+"),
      "/dev/zero": openSync("/dev/zero", "r+"),
      socket: socket(1, 0o2000001, 0),
      timerfd: timer(1, 0o2000000),
      inotify: inotify(0o2000000),
      epoll: libc().epoll_create1(0o2000000),
      memfd: makeMemfd(FILE_BYTES),
      eventfd: makeEventfd(),
    };
    for (const [kind, fd] of Object.entries(kinds)) this.#fds.set(kind, fd);
  }

  /** The descriptor of that kind. */
  of(kind: string): number {
    return this.#fds.get(kind) as number;
  }

  /** All kinds but those. */
  not(...others: string[]): string[] {
    return [...this.#fds.keys()].filter((kind) => !others.includes(kind));
  }

  /** All descriptors. */
  get all(): number[] {
    return [...this.#fds.values()];
  }

  close(): void {
    for (const fd of this.#fds.values()) closeSync(fd);
    rmSync(this.folder, { recursive: true });
  }
}

/** A server that is tried, and what it held before. */
export class Tried {
  readonly served: Served;
  readonly kinds: FdKinds;
  readonly #before: Held;

  private constructor(served: Served, kinds: FdKinds, before: Held) {
    this.served = served;
    this.kinds = kinds;
    this.#before = before;
  }

  static async start(): Promise<Tried> {
    const kinds = new FdKinds();
    const served = await Served.start();
    return new Tried(served, kinds, await warmUp(served));
  }

  /** Nothing is left of who was there, and a good front-end finds all well. */
  async isWell(): Promise<void> {
    await this.served.idle();
    await this.served.works();
    await this.served.idle();
    await expectGivenBack(this.served.kernel, this.#before);
  }

  /** Sends what must be refused: the code that was told, once. The connection goes on. */
  async refused(
    front: FrontEnd,
    request: RequestName | number,
    payload: Uint8Array,
    fds: readonly number[] = [],
  ): Promise<string> {
    const before = this.served.events.length;
    const what = `${request} [${payload}] with ${fds.length} descriptors`;
    expect(await front.tell(request, payload, fds), what).toBe(false);
    const events = this.served.events.slice(before);
    expect(events, what).toMatchObject([{ event: "refused" }]);
    const [refusal] = events.filter((event) => event.event === "refused");
    expect(refusal?.request).toBe(typeof request === "number" ? `request ${request}` : request);
    return refusal?.error.code ?? "";
  }

  async close(): Promise<void> {
    await this.served[Symbol.asyncDispose]();
    this.kinds.close();
  }
}

/** Flags of a request that is to be acknowledged. */
export const NEED_REPLY = VHOST_USER_VERSION | VHOST_USER_NEED_REPLY;

/** Closes what a test opened. */
export function closing<T>(fd: number, use: (fd: number) => Promise<T>): Promise<T> {
  return use(fd).finally(() => closeFd(fd));
}
