import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  main.ioctl(main.open("/dev/vhost-vsock"), "VHOST_SET_OWNER");
  const second = main.open("/dev/vhost-vsock");
  main.setrlimit("NPROC", 1, 10);
  main.setuid(20070);
  const set_owner_second = main.ioctl(second, "VHOST_SET_OWNER");
  main.setrlimit("NPROC", 2);
  const set_owner_second_limit_2 = main.ioctl(second, "VHOST_SET_OWNER");
  const [worker0, worker1] = main.tasks().filter((tid) => tid !== main.tid);
  return {
    set_owner_second,
    set_owner_second_limit_2,
    worker0_uid: worker0 && main.status(worker0).Uid,
    worker1_uid: worker1 && main.status(worker1).Uid,
  };
}
