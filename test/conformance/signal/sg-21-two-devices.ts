import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const vsock = main.open("/dev/vhost-vsock");
  const scsi = main.open("/dev/vhost-scsi");
  const owner = main.fork();
  owner.ioctl(vsock, "VHOST_SET_OWNER");
  owner.ioctl(scsi, "VHOST_SET_OWNER");
  owner.ioctl(scsi, "VHOST_NEW_WORKER", {});
  const threads_of_owner = owner.tasks().length;
  main.kill(owner.pid, "SIGKILL");
  return {
    threads_of_owner,
    wait: main.wait(owner.pid),
    scsi_GET_VRING_WORKER: main.ioctl(scsi, "VHOST_GET_VRING_WORKER", { index: 0 }),
    close_fast: [vsock, scsi].every((fd) => main.close(fd) === "OK"),
  };
}
