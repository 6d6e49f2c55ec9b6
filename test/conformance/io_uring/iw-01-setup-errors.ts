import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  const vsock = main.open("/dev/vhost-vsock");
  const ring = main.ioUringSetup({ sqpoll: true });
  return {
    entries_0: attempt(() => main.ioUringSetup({ entries: 0 })),
    entries_32769: attempt(() => main.ioUringSetup({ entries: 32769 })),
    entries_3: attempt(() => main.ioUringSetup({ entries: 3 })),
    sq_aff_without_sqpoll: attempt(() => main.ioUringSetup({ sqThreadCpu: 0 })),
    sq_aff_bad_cpu: attempt(() => main.ioUringSetup({ sqpoll: true, sqThreadCpu: 99 })),
    attach_bad_fd: attempt(() => main.ioUringSetup({ sqpoll: true, attachWq: 99 })),
    attach_no_ring: attempt(() => main.ioUringSetup({ sqpoll: true, attachWq: vsock })),
    attach: attempt(() => main.ioUringSetup({ sqpoll: true, attachWq: ring })),
    sqp_threads: main.tasks().filter((tid) => main.stat(tid).comm.startsWith("iou-sqp-")).length,
    submit_no_ring: main.ioUringSubmit(vsock, { opcode: "IORING_OP_NOP" }),
  };
}
