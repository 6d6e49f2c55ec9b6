import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const ring = main.ioUringSetup({ entries: 64 });
  const workers = () => main.tasks().filter((tid) => tid !== main.tid).length;
  const ends = Array.from({ length: 4 }, () => main.pipe());
  for (const [fd] of ends) main.ioUringSubmit(ring, { opcode: "IORING_OP_SPLICE", fd, len: 8 });
  main.mkfifo("/tmp/fifo");
  const open = { opcode: "IORING_OP_OPENAT", path: "/tmp/fifo", flags: ["IOSQE_ASYNC"] } as const;
  main.ioUringSubmit(ring, open);
  main.ioUringSubmit(ring, open);
  const workers_blocked = workers();
  main.sleep(20);
  const workers_blocked_20_s = workers();
  for (const [, fd] of ends) main.writeBytes(fd, 8);
  main.open("/tmp/fifo", "O_WRONLY");
  const completions = main.ioUringCqes(ring).length;
  main.sleep(4);
  const workers_idle_4_s = workers();
  main.sleep(2);
  const workers_idle_6_s = workers();
  main.sleep(60);
  return {
    workers_blocked,
    workers_blocked_20_s,
    completions,
    workers_idle_4_s,
    workers_idle_6_s,
    workers_idle_66_s: workers(),
  };
}
