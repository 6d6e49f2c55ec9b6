import { linkSync, lstatSync, renameSync, unlinkSync } from "node:fs";
import { VhostError } from "../spec/errno.js";
import { closeFd } from "./libc.js";
import { connectUnix } from "./unix-socket.js";

/** The file itself, however it is named. */
export function keyOf(path: string): string {
  const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return `${stat?.dev}:${stat?.ino}`;
}

/**
 * Whether there is a socket that nobody listens at any more. False without koffi, and for what is
 * no socket.
 */
export function isRefused(path: string): boolean {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) return false;
  try {
    closeFd(connectUnix(path));
    return false;
  } catch (error) {
    return error instanceof VhostError && error.code === "ECONNREFUSED";
  }
}

/** Removes a stale socket; `false` when another server was there in the meantime. */
export function takeAway(path: string): boolean {
  const key = keyOf(path);
  const aside = `${path}.${process.pid}`;
  try {
    if (!isRefused(path)) return false;
    renameSync(path, aside); // of several who do this, each sees what it has got
    const isOurs = keyOf(aside) === key;
    if (!isOurs) linkSync(aside, path);
    unlinkSync(aside);
    return isOurs;
  } catch {
    return false;
  }
}
