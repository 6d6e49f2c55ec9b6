// The programs that serve a disk over vhost-user: ours and qemu-storage-daemon. Each runs for as
// long as a bench has it open.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { libc } from "#dist/linux/libc.js";

/** Where a disk's bytes are: a file, or nowhere. */
export interface Disk {
  file?: string;
  sizeBytes: number;
}

/** Who serves it, and how that one does its I/O. */
export type Peer = "vhost-wasm" | "null-co" | "threads" | "io_uring";

const DAEMON = "qemu-storage-daemon";
const START_MS_MAX = 10_000;
const CLI = new URL("../cli/main.js", import.meta.url).pathname;

/** Whether vhost-user can be had here at all: Linux, with koffi. */
export function canServe(): boolean {
  try {
    libc();
    return true;
  } catch {
    return false;
  }
}

/** Whether the other side of the comparison is installed. */
export function hasDaemon(): boolean {
  const folders = (process.env.PATH ?? "").split(delimiter);
  return folders.some((folder) => existsSync(join(folder, DAEMON)));
}

function commandOf(peer: Peer, { file, sizeBytes }: Disk, socket: string): [string, string[]] {
  if (peer === "vhost-wasm") {
    const source = file ? ["--image", file, "--read-only"] : ["--null", String(sizeBytes)];
    const serve = ["serve", "blk", "--socket", socket, "--queues", "1", ...source];
    return [process.execPath, [CLI, ...serve]];
  }
  const disk =
    peer === "null-co"
      ? `driver=null-co,node-name=disk,size=${sizeBytes},read-zeroes=off`
      : `driver=file,node-name=disk,filename=${file},aio=${peer},read-only=on`;
  const where = `addr.type=unix,addr.path=${socket}`;
  const share = `type=vhost-user-blk,id=e,node-name=disk,${where},num-queues=1`;
  return [DAEMON, ["--blockdev", disk, "--export", share]];
}

/** Threads that wait for one another are moved about; with a core for each side they stay. */
const canPin = availableParallelism() > 1 && spawnSync("taskset", ["--version"]).status === 0;
const OWN_CORE = 0;
const PEER_CORE = 1;

function onCore(core: number, command: string, args: string[]): [string, string[]] {
  return canPin ? ["taskset", ["-c", String(core), command, ...args]] : [command, args];
}

/** Keeps this program on its core while `work` goes on. */
export async function onOwnCore<T>(work: () => Promise<T>): Promise<T> {
  const setAffinity = (cores: string) => {
    if (canPin) spawnSync("taskset", ["-acp", cores, String(process.pid)]);
  };
  setAffinity(String(OWN_CORE));
  try {
    return await work();
  } finally {
    setAffinity(`0-${availableParallelism() - 1}`);
  }
}

/** A program that serves a disk at `socket`. */
export class ServingPeer {
  readonly socket: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, socket: string) {
    this.#child = child;
    this.socket = socket;
  }

  /** Starts it, and waits for its socket. */
  static async start(peer: Peer, disk: Disk, folder: string): Promise<ServingPeer> {
    const socket = join(folder, `${peer}${disk.file ? "" : "-null"}.sock`);
    const [command, args] = onCore(PEER_CORE, ...commandOf(peer, disk, socket));
    const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"] });
    const serving = new ServingPeer(child, socket);
    for (let waited = 0; !existsSync(socket); waited += 20) {
      if (child.exitCode !== null || waited > START_MS_MAX) {
        await serving.stop();
        throw new Error(`${command} did not come up: ${args.join(" ")}`);
      }
      await setTimeout(20);
    }
    return serving;
  }

  /** Ends it, and waits for that. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    await exited;
  }
}
