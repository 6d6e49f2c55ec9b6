import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  main.setrlimit("NPROC", 1, 10);
  main.setuid(20011);
  const ring = main.ioUringSetup();
  const flags = ["IOSQE_ASYNC"] as const;
  const submit = main.ioUringSubmit(ring, { opcode: "IORING_OP_NOP", user_data: 1, flags });
  const [first] = main.ioUringCqes(ring);
  const inline = main.ioUringSubmit(ring, { opcode: "IORING_OP_NOP", user_data: 2 });
  const [second] = main.ioUringCqes(ring);
  main.setrlimit("NPROC", 2);
  main.ioUringSubmit(ring, { opcode: "IORING_OP_NOP", user_data: 3, flags });
  const [third] = main.ioUringCqes(ring);
  return {
    submit,
    res_no_worker: first?.res,
    inline,
    res_inline: second?.res,
    res_limit_2: third?.res,
    threads: main.tasks().length,
  };
}
