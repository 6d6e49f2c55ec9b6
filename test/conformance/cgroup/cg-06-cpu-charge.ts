import type { Scene, Seen } from "../machine/index.js";
import { threadNamed } from "../task-fields.js";

const GROUP = "/sys/fs/cgroup/c06";
const PACKETS = 256000;
const BURST = 1000;

export function run({ main }: Scene): Seen {
  main.mkdir(GROUP);
  main.write(`${GROUP}/cgroup.procs`, 0);
  const fd = main.open("/dev/vhost-vsock");
  const set_owner = main.ioctl(fd, "VHOST_SET_OWNER");
  const rings = main.mapVsockRings(1024);
  main.startVsock(fd, 42, rings, 1024);
  const worker = threadNamed(main, "vhost-") ?? 0;
  const usage = () => Number(/usage_usec (\d+)/.exec(main.read(`${GROUP}/cpu.stat`))?.[1]);
  const before = [usage(), main.processCpuTimeUs()] as const;
  for (let sent = 0; sent < PACKETS; sent += BURST) main.sendPackets(rings.tx, BURST);
  const workerUs = main.stat(worker).cpuTimeUs;
  return {
    set_owner,
    worker_cgroup: main.cgroupOf(worker),
    worker_cpu_over_20ms: workerUs > 20_000,
    cgroup_usage_covers_worker: usage() - before[0] >= workerUs,
    process_cputime_covers_worker: main.processCpuTimeUs() - before[1] >= workerUs,
  };
}
