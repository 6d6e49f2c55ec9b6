// Front-ends of another user, for tests that run as root.

import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll } from "vitest";
import type { ServeOptions } from "#dist/vhost-user/server.js";
import { describeWith } from "./skip.js";
import { describeVhostUser, Served } from "./vhost-user.js";
import { Program } from "./vhost-user-child.js";

/** Who the front-ends are. */
export const UID = 65534;
export const GID = 65533;
const IMAGE_BYTES = 1 << 20;

/** What another user lacks to be a front-end of this program, if anything. */
function whatOthersMiss(): string | undefined {
  if (process.getuid?.() !== 0) return "root";
  const script = fileURLToPath(new URL("vhost-user-front.mjs", import.meta.url));
  const read = `require("fs").readFileSync(${JSON.stringify(script)})`;
  const { status } = spawnSync(process.execPath, ["-e", read], { uid: UID, gid: GID, cwd: "/" });
  if (status === 0) return undefined;
  return `Node and this package to be where others may read: not in ${process.execPath}, ${script}`;
}

const missing = whatOthersMiss();

/** A suite that needs root too; else it is skipped, and its name says why. */
export function describeOwners(name: string, body: () => void): void {
  describeWith(missing, name, () => describeVhostUser("as root", body));
}

/** A folder of the test file, where others may look. */
export function openFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  chmodSync(folder, 0o755);
  return folder;
}

/** A front-end of another user; see vhost-user-front.mjs. */
export const startFront = (env: Record<string, string> = {}): Program =>
  Program.script("vhost-user-front.mjs", [], {
    uid: UID,
    gid: GID,
    env: { ...process.env, ...env },
  });

/** Serves where others may connect. */
export async function serveOthers(options: Partial<ServeOptions> = {}): Promise<Served> {
  const served = await Served.start(options);
  chmodSync(served.folder, 0o755);
  chmodSync(served.path, 0o777);
  return served;
}

/** An image of that mode, of root and a group. */
export function makeImage(folder: string, name: string, mode: number, gid = 0): string {
  const path = join(folder, name);
  writeFileSync(path, new Uint8Array(IMAGE_BYTES).fill(0x42));
  chownSync(path, 0, gid);
  chmodSync(path, mode);
  return path;
}
