import type { Scene, Seen } from "../machine/index.js";

/** What a failed call returns, as the record has it. */
const ENOBUFS = 105;

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-scsi");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const threads = () => main.tasks().length;
  const get = (index: number) => {
    const arg = { index, worker_id: -1 };
    const result = main.ioctl(fd, "VHOST_GET_VRING_WORKER", arg);
    return result === "ENOBUFS" ? -ENOBUFS : result === "OK" ? arg.worker_id : result;
  };
  const create = (name: string): Seen => {
    const arg = { worker_id: -1 };
    return { [name]: main.ioctl(fd, "VHOST_NEW_WORKER", arg), [`${name}_id`]: arg.worker_id };
  };
  const attach = (index: number, worker_id: number) =>
    main.ioctl(fd, "VHOST_ATTACH_VRING_WORKER", { index, worker_id });
  const free = (worker_id: number) => main.ioctl(fd, "VHOST_FREE_WORKER", { worker_id });
  const seen: Seen = {
    threads_after_owner: threads(),
    default_worker_of_vq0: get(0),
    default_worker_of_vq129: get(129),
    get_vq130: get(130),
  };
  Object.assign(seen, create("new1"), create("new2"), create("new3"));
  Object.assign(seen, {
    threads: threads(),
    attach_vq2_to_2: attach(2, 2),
    get_vq2: get(2),
    get_vq3: get(3),
    attach_missing_id: attach(2, 99),
    attach_vq_oor: attach(130, 2),
    attach_vq_oor_missing_id: attach(130, 99),
    attach_same_again: attach(2, 2),
    free_attached_2: free(2),
    free_1: free(1),
    free_1_again: free(1),
    free_missing: free(99),
    threads_after_free: threads(),
    free_default_0_attached: free(0),
  });
  const { new4, new4_id } = create("new4");
  return {
    ...seen,
    new4,
    new4_id_reused: new4_id,
    attach_vq2_back_to_0: attach(2, 0),
    free_2_now: free(2),
    threads_end: threads(),
  };
}
