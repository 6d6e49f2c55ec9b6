import type { Scene, Seen } from "../machine/index.js";

/** A user address where nothing is mapped, and one of the kernel's. */
const UNMAPPED = 0x1000n;
const KERNEL = 0xffff_8000_0000_0000n;

export function run({ main }: Scene): Seen {
  const fd = main.open("/dev/vhost-vsock");
  const running = (value?: number) => main.ioctl(fd, "VHOST_VSOCK_SET_RUNNING", value);
  const run_no_owner = running(1);
  const stop_no_owner = running(0);
  main.ioctl(fd, "VHOST_SET_OWNER");
  const run_no_rings_no_mem = running(1);
  main.ioctl(fd, "VHOST_SET_MEM_TABLE", {});
  const run_mem_empty_rings_null = running(1);
  const stop_not_running = running(0);
  const { rx, tx } = main.mapVsockRings();
  const cfg = [rx, tx].flatMap((ring, index) => [
    main.ioctl(fd, "VHOST_SET_VRING_NUM", { index, num: 8 }),
    main.ioctl(fd, "VHOST_SET_VRING_ADDR", { index, ring }),
  ]);
  const seen: Seen = {
    run_no_owner,
    stop_no_owner,
    run_no_rings_no_mem,
    run_mem_empty_rings_null,
    stop_not_running,
    cfg_without_cid: cfg.find((result) => result !== "OK") ?? "OK",
    run_without_cid: running(1),
    run_twice: running(1),
    run_value_7: running(7),
    stop: running(0),
    stop_twice: running(0),
  };
  const place = (at: bigint) =>
    main.ioctl(fd, "VHOST_SET_VRING_ADDR", {
      index: 1,
      desc_user_addr: at,
      avail_user_addr: at,
      used_user_addr: at,
    });
  place(UNMAPPED);
  seen.run_ring1_unmapped_user_addr = running(1);
  place(KERNEL);
  seen.run_ring1_kernel_addr = running(1);
  const num = { index: 0, num: 8 };
  seen.set_num_ring0_after_failed_run = main.ioctl(fd, "VHOST_SET_VRING_NUM", num);
  return { ...seen, badptr: running() };
}
