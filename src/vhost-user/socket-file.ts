import { lstatSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { closeFd } from "../linux/libc.js";
import { isRefused, keyOf, takeAway } from "../linux/stale-socket.js";
import { listenUnix } from "../linux/unix-socket.js";
import { VhostError } from "../spec/errno.js";

/** From a socket's bind to its listen it takes another program so long at most, in milliseconds. */
const LISTEN_MS_MAX = 50;

/** A socket that listens, and its file. */
export class SocketFile {
  /** The listening socket. */
  readonly fd: number;
  readonly #path: string;
  readonly #key: string;

  private constructor(path: string, fd: number) {
    this.#path = path;
    this.fd = fd;
    this.#key = keyOf(path);
  }

  /**
   * Listens at `path`; takes the place of a socket that nobody has any more. Rejects with
   * EADDRINUSE, ENOENT, EACCES.
   */
  static async listen(path: string): Promise<SocketFile> {
    try {
      return new SocketFile(path, listenUnix(path));
    } catch (error) {
      const isTaken = error instanceof VhostError && error.code === "EADDRINUSE";
      if (!isTaken || !(await isStale(path)) || !takeAway(path)) throw error;
      return new SocketFile(path, listenUnix(path));
    }
  }

  /**
   * Ends it and removes the file, unless it is another's by now. If it stays, it is as after a
   * crash.
   */
  close(): void {
    try {
      if (keyOf(this.#path) === this.#key) rmSync(this.#path, { force: true });
    } catch {
      // the next server at this path takes its place
    }
    closeFd(this.fd);
  }
}

/** Throws EADDRINUSE for what is no socket. */
async function isStale(path: string): Promise<boolean> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat && !stat.isSocket()) {
    throw new VhostError("EADDRINUSE", `${path} is there already, and is no socket`);
  }
  if (!isRefused(path)) return false;
  await sleep(LISTEN_MS_MAX); // it may have been bound a moment ago
  return isRefused(path);
}
