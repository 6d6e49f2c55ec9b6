import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const ring = main.ioUringSetup();
  main.pipe();
  main.ioUringSubmitAsync(ring);
  const workers = main.tasks().length - 1;
  main.close(ring);
  return { workers, workers_after_ring_close: main.tasks().length - 1 };
}
