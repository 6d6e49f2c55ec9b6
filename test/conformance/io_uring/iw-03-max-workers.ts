import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  main.setrlimit("NPROC", 50, 100);
  const ring = main.ioUringSetup({ entries: 4 });
  main.setrlimit("NPROC", 10);
  const counts = [0, 0];
  const query = main.ioUringRegisterMaxWorkers(ring, counts);
  const big = [1000, 1000];
  main.ioUringRegisterMaxWorkers(ring, big);
  const clamped = [0, 0];
  main.ioUringRegisterMaxWorkers(ring, clamped);
  const wide = main.ioUringSetup({ entries: 64 });
  const thread = main.pthreadCreate();
  const others = [0, 0];
  thread.ioUringRegisterMaxWorkers(wide, others);
  return {
    query,
    bounded_4_entries: counts[0],
    unbounded_nproc_at_creation: counts[1],
    bounded_clamped: clamped[0],
    unbounded_clamped: clamped[1],
    thread_without_io_wq: others.join(),
    too_big: main.ioUringRegisterMaxWorkers(ring, [0x80000000, 0]),
    one_value: main.ioUringRegisterMaxWorkers(ring, [1]),
    null: main.ioUringRegisterMaxWorkers(ring),
  };
}
