import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  main.setuid(20040);
  main.setrlimit("NPROC", 10);
  const fd = main.open("/dev/vhost-vsock");
  const set_owner = main.ioctl(fd, "VHOST_SET_OWNER");
  main.setrlimit("NPROC", 1);
  const worker_alive_after_lowering = main.tasks().length === 2;
  const second = main.open("/dev/vhost-vsock");
  const new_device_after_lowering = main.ioctl(second, "VHOST_SET_OWNER");
  const device_still_works = main.ioctl(fd, "VHOST_SET_VRING_NUM", { index: 0, num: 8 });
  main.setrlimit("NPROC", 0);
  return {
    set_owner,
    worker_alive_after_lowering,
    new_device_after_lowering,
    device_still_works,
    set_owner_limit_0: main.ioctl(second, "VHOST_SET_OWNER"),
  };
}
