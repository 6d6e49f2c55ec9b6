import type { Scene, Seen } from "../machine/index.js";

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-scsi");
  const owner = main.fork();
  owner.ioctl(fd, "VHOST_SET_OWNER");
  const sibling = owner.clone(["CLONE_VM", "CLONE_FILES"]);
  const get_worker = sibling.ioctl(fd, "VHOST_GET_VRING_WORKER", { index: 0 });
  const new_worker = sibling.ioctl(fd, "VHOST_NEW_WORKER", {});
  const threads = [owner.tasks().length, sibling.tasks().length];
  main.kill(owner.pid, "SIGKILL");
  return {
    get_worker,
    new_worker,
    owner_threads: threads[0],
    sibling_threads: threads[1],
    wait: main.wait(owner.pid),
    sibling_alive: sibling.isAlive,
    killed_get_worker: sibling.ioctl(fd, "VHOST_GET_VRING_WORKER", { index: 0 }),
    attach_to_killed: sibling.ioctl(fd, "VHOST_ATTACH_VRING_WORKER", { index: 0, worker_id: 0 }),
    free_killed: sibling.ioctl(fd, "VHOST_FREE_WORKER", { worker_id: 0 }),
    attach_to_live: sibling.ioctl(fd, "VHOST_ATTACH_VRING_WORKER", { index: 0, worker_id: 1 }),
    get_worker_then: (() => {
      const arg = { index: 0, worker_id: -1 };
      sibling.ioctl(fd, "VHOST_GET_VRING_WORKER", arg);
      return arg.worker_id;
    })(),
  };
}
