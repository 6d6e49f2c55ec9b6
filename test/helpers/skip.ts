// Tests that need what not every machine has: where it is missing they are skipped, and their names
// say what it is.

import { existsSync } from "node:fs";
import { describe, test } from "vitest";
import { libc } from "#dist/linux/libc.js";

/** What is missing, in a few words; `undefined`: nothing is. */
export type Missing = string | undefined;

/** A title, with what is missing. */
export const titled = (title: string, missing: Missing): string =>
  missing === undefined ? title : `${title} (missing: ${missing})`;

/** Which of the files is not there. */
export const missingFile = (...paths: string[]): Missing => paths.find((path) => !existsSync(path));

/** Why the C library can't be called, with what would help. */
export function missingLibc(): Missing {
  try {
    libc();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** A test that is skipped, by name, where something is missing. */
export function testWith(missing: Missing, title: string, body: () => void | Promise<void>): void {
  test.skipIf(missing !== undefined)(titled(title, missing), body);
}

/** A suite that is skipped, by name, where something is missing. */
export function describeWith(missing: Missing, title: string, body: () => void): void {
  describe.skipIf(missing !== undefined)(titled(title, missing), body);
}
