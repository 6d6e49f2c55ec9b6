import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  main.setrlimit("NPROC", 0, 0);
  const set_owner = main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const fork = attempt(() => main.fork());
  main.capset([]);
  return {
    set_owner,
    fork,
    set_owner_no_caps_uid0: main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER"),
    pthread_no_caps_uid0: attempt(() => main.pthreadCreate()),
  };
}
