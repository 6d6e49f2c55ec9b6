import { accessSync, constants, lstatSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { errnoOf, VhostError } from "../spec/errno.js";

/** Whether this user may use `path` like that; why not, as an error's code. */
function refusal(path: string, mode: number) {
  try {
    accessSync(path, mode);
    return undefined;
  } catch (error) {
    return errnoOf(error);
  }
}

/** Throws for a folder in which no file can be made. `what`: it can't be, as a person says it. */
function checkFolder(what: string, path: string): void {
  const folder = dirname(path);
  const code = refusal(folder, constants.W_OK | constants.X_OK);
  if (code === undefined && statSync(folder).isDirectory()) return;
  const why = {
    ENOENT: `there is no folder ${folder}`,
    EACCES: `this user may not write to the folder ${folder}`,
    EROFS: `the folder ${folder} is on a file system that is read-only`,
  }[code as string];
  throw new VhostError(code ?? "ENOENT", `${what}: ${why ?? `${folder} is no folder`}`, { path });
}

/**
 * Throws ENOENT, EACCES, EROFS, EINVAL for a path at which no file can be made, and where none that
 * is there can be written. `what`: "the capture", say. Makes nothing.
 */
export function checkMakeable(what: string, path: string): void {
  const told = `${what} ${path} can't be made`;
  const there = statSync(path, { throwIfNoEntry: false });
  if (!there) {
    checkFolder(told, path);
    return;
  }
  if (there.isDirectory()) throw new VhostError("EINVAL", `${told}: it is a folder`, { path });
  const code = refusal(path, constants.W_OK);
  if (code) throw new VhostError(code, `${told}: this user may not write to it`, { path });
}

/**
 * Throws ENOENT, EACCES, EROFS for a path at which no socket can be made, EADDRINUSE where there is
 * something else. Whether somebody listens there is not looked at. Makes nothing.
 */
export function checkSocketPlace(path: string): void {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (!there) checkFolder(`no socket can be made at ${path}`, path);
  else if (!there.isSocket()) {
    throw new VhostError("EADDRINUSE", `${path} is there already, and is no socket`, { path });
  }
}
