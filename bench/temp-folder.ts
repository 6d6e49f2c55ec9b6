import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";

/** A folder for a bench's files, gone when disposed, and at the program's end at the latest. */
export function tempFolder(parent: string): { path: string } & Disposable {
  const path = mkdtempSync(join(parent, "vhost-wasm-bench-"));
  const remove = () => rmSync(path, { recursive: true, force: true });
  process.once("exit", remove);
  return {
    path,
    [Symbol.dispose]: () => {
      process.off("exit", remove);
      remove();
    },
  };
}
