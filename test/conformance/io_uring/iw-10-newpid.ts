import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  const unshare = main.unshare(["CLONE_NEWPID"]);
  const sqpoll = attempt(() => main.ioUringSetup({ sqpoll: true }));
  const ring = main.ioUringSetup();
  main.ioUringSubmit(ring, { opcode: "IORING_OP_NOP", flags: ["IOSQE_ASYNC"] });
  return { unshare, sqpoll, res: main.ioUringCqes(ring)[0]?.res, threads: main.tasks().length };
}
