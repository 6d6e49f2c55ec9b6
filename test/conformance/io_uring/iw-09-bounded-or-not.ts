import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const ring = main.ioUringSetup({ entries: 64 });
  main.ioUringRegisterMaxWorkers(ring, [1, 2]);
  const workers = () => main.tasks().filter((tid) => tid !== main.tid).length;
  const [read] = main.pipe();
  for (let at = 0; at < 5; at++) main.ioUringSubmit(ring, { opcode: "IORING_OP_SPLICE", fd: read });
  const unbounded = workers();
  for (let at = 0; at < 5; at++) main.ioUringSubmitAsync(ring, "openat-fifo");
  const both = workers();
  const [flags, comms] = [new Set<string>(), new Set<string>()];
  for (const tid of main.tasks().slice(1)) {
    flags.add(main.stat(tid).flagNames.join("|"));
    comms.add(main.stat(tid).comm.replace(`${main.tid}`, "<tid>"));
  }
  return {
    unbounded,
    both,
    flags: [...flags].join(),
    comms: [...comms].join(),
    regular_write: (() => {
      const file = main.open("/tmp/file", "O_RDWR | O_CREAT");
      const wrote = main.ioUringSubmit(ring, { opcode: "IORING_OP_WRITE", fd: file, len: 5 });
      return `${wrote} ${main.ioUringCqes(ring)[0]?.res}`;
    })(),
  };
}
