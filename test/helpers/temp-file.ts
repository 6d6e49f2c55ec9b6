// Files for tests, gone when the test file ends.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

/** A folder for the files of one test file; call it at the top. Gives a maker of files. */
export function tempFiles(): (content: Uint8Array | number, name?: string) => string {
  const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  let count = 0;
  return (content, name = `disk-${count++}.img`) => {
    const path = join(folder, name);
    writeFileSync(path, typeof content === "number" ? new Uint8Array(content) : content);
    return path;
  };
}
