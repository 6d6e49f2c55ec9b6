import type { Scene, Seen } from "../machine/index.js";

const GROUP = "/sys/fs/cgroup/c02";

export function run({ main, attempt }: Scene): Seen {
  main.mkdir(GROUP);
  main.write(`${GROUP}/cgroup.procs`, 0);
  main.write(`${GROUP}/pids.max`, 1);
  const fd = main.open("/dev/vhost-vsock");
  const set_owner_root = main.ioctl(fd, "VHOST_SET_OWNER");
  const pthread_root = attempt(() => main.pthreadCreate());
  const sqpoll_root = attempt(() => main.ioUringSetup({ sqpoll: true }));
  const events = main.read(`${GROUP}/pids.events`);
  const pids_current = Number(main.read(`${GROUP}/pids.current`));
  main.write(`${GROUP}/pids.max`, 2);
  return {
    set_owner_root,
    pthread_root,
    sqpoll_root,
    events,
    pids_current,
    set_owner_max_2: main.ioctl(fd, "VHOST_SET_OWNER"),
    pids_then: Number(main.read(`${GROUP}/pids.current`)),
    max_text: main.read(`${GROUP}/pids.max`),
    write_negative: main.write(`${GROUP}/pids.max`, "-1"),
    write_max: main.write(`${GROUP}/pids.max`, "max"),
  };
}
