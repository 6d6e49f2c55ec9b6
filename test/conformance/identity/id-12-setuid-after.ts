import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const worker = threadNamed(main, "vhost-") ?? 0;
  main.setgroups([7]);
  main.setgid(30);
  const setuid = main.setuid(20090);
  const own = main.status(main.tid);
  const status = main.status(worker);
  const nproc = main.setrlimit("NPROC", 2, 2);
  return {
    setuid,
    owner_Uid: own.Uid,
    owner_Gid: own.Gid,
    owner_Groups: own.Groups,
    owner_CapEff: own.CapEff,
    worker_Uid: status.Uid,
    worker_Gid: status.Gid,
    worker_Groups: status.Groups,
    worker_CapEff: status.CapEff,
    nproc,
    set_owner_second_limit_2: main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER"),
    set_owner_third_limit_2: main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER"),
    setuid_back: main.setuid(0),
  };
}
