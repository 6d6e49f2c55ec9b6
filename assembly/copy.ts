/** Copies `bytes` bytes within the memory; they may overlap. See src/ring/copy-bytes.ts. */
export function copyBytes(to: usize, from: usize, bytes: usize): void {
  memory.copy(to, from, bytes);
}
