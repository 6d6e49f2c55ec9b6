import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const ring = main.ioUringSetup({ entries: 64 });
  const workers = () => main.tasks().length - 1;
  const set_max_2_3 = main.ioUringRegisterMaxWorkers(ring, [2, 3]);
  for (let request = 0; request < 8; request++) main.ioUringSubmitAsync(ring, "openat-fifo");
  const bounded = workers();
  main.ioUringSubmitAsync(ring, "read-empty-pipe");
  const workers_plus_one_unbounded = workers();
  const raise_bounded_to_5 = main.ioUringRegisterMaxWorkers(ring, [5, 0]);
  const workers_after_raising_limit = workers();
  main.ioUringSubmitAsync(ring, "openat-fifo");
  return {
    set_max_2_3,
    "workers_8_blocking_openat(bounded,max2)": bounded,
    workers_plus_one_unbounded,
    raise_bounded_to_5,
    workers_after_raising_limit,
    workers_after_one_more_submit: workers(),
  };
}
