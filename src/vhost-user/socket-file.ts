import { lstatSync, rmSync, unlinkSync } from "node:fs";
import { closeFd } from "../linux/libc.js";
import { connectUnix, isBoundUnix, listenUnix } from "../linux/unix-socket.js";
import { VhostError } from "../spec/errno.js";

/** A socket that listens, and its file. */
export class SocketFile {
  /** The listening socket, the caller's to close. */
  readonly fd: number;
  readonly #path: string;
  readonly #key: string;

  /** Takes the place of a socket that nobody has any more. Throws EADDRINUSE, ENOENT, EACCES. */
  constructor(path: string) {
    this.#path = path;
    this.fd = listenAt(path);
    this.#key = keyOf(path);
  }

  /** Removes the file, unless it is another's by now. If it stays, it is as after a crash. */
  remove(): void {
    try {
      if (keyOf(this.#path) === this.#key) rmSync(this.#path, { force: true });
    } catch {
      // the next server at this path takes its place
    }
  }
}

/** The file itself, however it is named. */
function keyOf(path: string): string {
  const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return `${stat?.dev}:${stat?.ino}`;
}

function listenAt(path: string): number {
  try {
    return listenUnix(path);
  } catch (error) {
    const isTaken = error instanceof VhostError && error.code === "EADDRINUSE";
    if (!isTaken || !isStale(path)) throw error;
    unlinkSync(path);
    return listenUnix(path);
  }
}

/** Asked first is who disturbs nobody, and sees one that is bound and does not listen yet. */
function isStale(path: string): boolean {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket() || isBoundUnix(path)) return false;
  try {
    closeFd(connectUnix(path)); // in another network namespace, or by another name
    return false;
  } catch (error) {
    return error instanceof VhostError && error.code === "ECONNREFUSED";
  }
}
