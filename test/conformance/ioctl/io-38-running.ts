import type { Scene, Seen } from "../machine/index.js";

export function run({ main, inexpressible }: Scene): Seen {
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
  const noAddresses = inexpressible("rings have no addresses that could be unmapped");
  return {
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
    run_ring1_unmapped_user_addr: noAddresses,
    run_ring1_kernel_addr: noAddresses,
    set_num_ring0_after_failed_run: noAddresses,
    badptr: running(),
  };
}
