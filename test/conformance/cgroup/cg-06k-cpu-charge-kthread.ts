import type { Scene, Seen } from "../machine/index.js";

const GROUP = "/sys/fs/cgroup/c06k";
const PACKETS = 256000;
const BURST = 1000;

export function run({ main }: Scene): Seen {
  main.mkdir(GROUP);
  main.write(`${GROUP}/cgroup.procs`, 0);
  const fd = main.open("/dev/vhost-vsock");
  main.ioctl(fd, "VHOST_SET_FORK_FROM_OWNER", 0);
  const set_owner = main.ioctl(fd, "VHOST_SET_OWNER");
  const rings = main.mapVsockRings(1024);
  const cfg = main.startVsock(fd, 42, rings, 1024);
  const run = main.ioctl(fd, "VHOST_VSOCK_SET_RUNNING", 1);
  const worker =
    main.processes().find((pid) => main.stat(pid).comm === `vhost-${main.tid}`) ?? main.tid;
  const usage = () => Number(/usage_usec (\d+)/.exec(main.read(`${GROUP}/cpu.stat`))?.[1]);
  const before = [usage(), main.processCpuTimeUs(), main.stat(worker).cpuTimeUs] as const;
  let used = 0;
  for (let sent = 0; sent < PACKETS; sent += BURST) {
    const at = rings.tx.usedIdx;
    main.sendPackets(rings.tx, BURST);
    used += (rings.tx.usedIdx - at) & 0xffff;
  }
  const workerUs = main.stat(worker).cpuTimeUs - before[2];
  return {
    set_owner,
    cfg,
    run,
    worker_cgroup: main.cgroupOf(worker),
    pids_current: Number(main.read(`${GROUP}/pids.current`)),
    load_completed: used === PACKETS,
    worker_cpu_over_20ms: workerUs > 20_000,
    cgroup_usage_covers_worker: usage() - before[0] >= workerUs,
    process_cputime_covers_worker: main.processCpuTimeUs() - before[1] >= workerUs,
  };
}
