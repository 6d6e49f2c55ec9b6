import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { main } from "assemblyscript/asc";
import { ROOT } from "./source.js";

/**
 * Compiles a test's own AssemblyScript, with what it imports of the product, as asconfig.json has
 * it for the product. `source`: from the project's folder. Gives the exports, over `memory`.
 */
export async function compileAssembly(
  source: string,
  memory = new WebAssembly.Memory({ initial: 1, maximum: 65536 }),
): Promise<WebAssembly.Exports> {
  const folder = mkdtempSync(join(tmpdir(), "assembly-"));
  const outFile = join(folder, "module.wasm");
  try {
    const args = [source, "--baseDir", ROOT, "--outFile", relative(ROOT, outFile)];
    const { error, stderr } = await main(args);
    if (error) throw new Error(stderr.toString());
    const module = new WebAssembly.Module(readFileSync(outFile));
    return new WebAssembly.Instance(module, { env: { memory } }).exports;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
