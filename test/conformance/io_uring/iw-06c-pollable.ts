import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const ring = main.ioUringSetup({ entries: 64 });
  main.pipe();
  const set_max_2_3 = main.ioUringRegisterMaxWorkers(ring, [2, 3]);
  for (let request = 0; request < 8; request++) main.ioUringSubmitAsync(ring, "read-empty-pipe");
  const [first] = main.tasks().filter((tid) => tid !== main.tid);
  return {
    set_max_2_3,
    at_least_one_worker: first !== undefined,
    first_worker_wchan: first && main.wchan(first),
  };
}
