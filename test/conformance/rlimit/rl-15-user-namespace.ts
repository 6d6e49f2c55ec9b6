import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  const owner = main.fork();
  owner.setrlimit("NPROC", 2, 10);
  owner.setuid(20015);
  const unshare = owner.unshare(["CLONE_NEWUSER"]);
  const fd = owner.open("/dev/vhost-vsock");
  const set_owner = owner.ioctl(fd, "VHOST_SET_OWNER");
  const raise = owner.setrlimit("NPROC", 5);
  return {
    unshare,
    set_owner,
    pthread_at_limit_all_caps_there: attempt(() => owner.pthreadCreate()),
    raise,
    pthread_maker_is_at_its_limit: attempt(() => owner.pthreadCreate()),
    CapEff: owner.status(owner.tid).CapEff,
  };
}
