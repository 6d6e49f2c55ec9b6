import type { Scene, Seen } from "../machine/index.js";

export function run({ main, attempt }: Scene): Seen {
  main.setrlimit("NPROC", 3, 10);
  main.setuid(20002);
  const first = main.open("/dev/vhost-vsock");
  const set_owner_1 = main.ioctl(first, "VHOST_SET_OWNER");
  const set_owner_2 = main.ioctl(main.open("/dev/vhost-net"), "VHOST_SET_OWNER");
  const scsi = main.open("/dev/vhost-scsi");
  const set_owner_3 = main.ioctl(scsi, "VHOST_SET_OWNER");
  const pthread_at_limit = attempt(() => main.pthreadCreate());
  main.close(first);
  const set_owner_after_close = main.ioctl(scsi, "VHOST_SET_OWNER");
  return {
    set_owner_1,
    set_owner_2,
    set_owner_3,
    pthread_at_limit,
    set_owner_after_close,
    threads: main.tasks().length,
  };
}
