import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  main.setrlimit("NPROC", 1, 10);
  main.setuid(20012);
  const fds_before = main.fdCount(main.tid);
  const sqpoll = attempt(() => main.ioUringSetup({ sqpoll: true }));
  const fds_after = main.fdCount(main.tid);
  const plain = attempt(() => main.ioUringSetup());
  main.setrlimit("NPROC", 2);
  return {
    sqpoll,
    fd_left_behind: fds_after !== fds_before,
    plain,
    sqpoll_limit_2: attempt(() => main.ioUringSetup({ sqpoll: true })),
  };
}
