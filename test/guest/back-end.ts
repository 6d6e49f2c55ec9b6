// The process that serves a disk to QEMU.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../helpers/source.js";
import { Program } from "./program.js";
import type { GuestTools } from "./requirements.js";

/** The disk that a back-end serves. */
export interface ServedDisk {
  /** A raw image. */
  image: string;
  readOnly?: boolean;
  queues?: number;
  /** Up to 20 characters. */
  id?: string;
}

/** With `VHOST_WASM_GUEST_PEER=1` QEMU's own back-end serves: to tell which side a fault is on. */
export const IS_PEER = process.env.VHOST_WASM_GUEST_PEER === "1";

/** Serves until stopped, to one front-end after the other. */
export class BackEnd {
  readonly socket: string;
  readonly #serve: () => Serving;
  #program: Program | undefined;
  #isReplaced = false;
  readonly #onEnd: ((end: string) => void)[] = [];

  private constructor(socket: string, serve: () => Serving) {
    this.socket = socket;
    this.#serve = serve;
  }

  /** Starts a back-end and waits until it listens at `socket`. Rejects when it doesn't. */
  static async start(tools: GuestTools, socket: string, disk: ServedDisk): Promise<BackEnd> {
    const serve = IS_PEER ? servePeer : serveProduct;
    const backEnd = new BackEnd(socket, () => serve(tools, socket, disk));
    await backEnd.#begin();
    return backEnd;
  }

  async #begin(): Promise<void> {
    const { program, isReady } = this.#serve();
    this.#program = program;
    this.#isReplaced = false;
    program.ended.then((end) => {
      if (!this.#isReplaced) for (const listener of this.#onEnd) listener(end);
    });
    try {
      await program.until(isReady, "listening", 30_000);
    } catch (error) {
      await program.stop("SIGKILL");
      throw new Error(`back-end: ${(error as Error).message}\n${this.output}`);
    }
  }

  /** Calls `listener` when it ends, unless `replace` ends it. */
  onEnd(listener: (end: string) => void): void {
    this.#onEnd.push(listener);
  }

  /** The process that serves now. */
  get program(): Program {
    return this.#program as Program;
  }

  /** `kill -9`, and another one in its place. */
  async replace(): Promise<void> {
    this.#isReplaced = true;
    await this.program.stop("SIGKILL");
    await this.#begin();
  }

  /** All that it has printed. */
  get output(): string {
    return this.program.stdout + this.program.stderr;
  }

  /** Ends it as a user would. Rejects when it had ended before, hangs, or ends with an error. */
  async stop(): Promise<void> {
    const end = this.program.end ?? (await this.program.stop("SIGTERM", 20_000));
    if (end !== "exit status 0") throw new Error(`back-end: ${end}\n${this.output}`);
  }
}

interface Serving {
  program: Program;
  isReady: () => boolean;
}

/** `vhost-wasm serve blk`. */
function serveProduct(tools: GuestTools, socket: string, disk: ServedDisk): Serving {
  const args = [join(ROOT, "dist/cli/main.js"), "serve", "blk"];
  args.push("--socket", socket, "--image", disk.image);
  if (disk.readOnly) args.push("--read-only");
  if (disk.queues) args.push("--queues", String(disk.queues));
  if (disk.id) args.push("--id", disk.id);
  const program = new Program(tools, process.execPath, args);
  return { program, isReady: () => /listening/.test(program.stdout + program.stderr) };
}

/** `qemu-storage-daemon`, which takes no id. */
function servePeer(tools: GuestTools, socket: string, disk: ServedDisk): Serving {
  const pidFile = `${socket}.pid`;
  const access = disk.readOnly ? { node: "on", writable: "off" } : { node: "off", writable: "on" };
  const program = new Program(tools, "qemu-storage-daemon", [
    "--blockdev",
    `driver=file,node-name=file,filename=${disk.image},read-only=${access.node}`,
    "--export",
    `type=vhost-user-blk,id=disk,node-name=file,addr.type=unix,addr.path=${socket},` +
      `writable=${access.writable},num-queues=${disk.queues ?? 1}`,
    "--pidfile",
    pidFile,
  ]);
  return { program, isReady: () => existsSync(pidFile) };
}
