import type { Scene, Seen } from "../machine/index.js";

const GROUP = "/sys/fs/cgroup/c16";

export function run({ main }: Scene): Seen {
  main.mkdir(GROUP);
  main.write(`${GROUP}/cgroup.procs`, 0);
  const fd = main.open("/dev/vhost-vsock");
  main.ioctl(fd, "VHOST_SET_OWNER");
  const rings = main.mapVsockRings(1024);
  main.startVsock(fd, 42, rings, 1024);
  const before = main.read(`${GROUP}/cpu.max`);
  const set = main.write(`${GROUP}/cpu.max`, "5000 100000");
  for (let burst = 0; burst < 100; burst++) main.sendPackets(rings.tx, 1000);
  const stat = main.read(`${GROUP}/cpu.stat`);
  const value = (name: string) => Number(new RegExp(`${name} (\\d+)`).exec(stat)?.[1]);
  return {
    before,
    set,
    after: main.read(`${GROUP}/cpu.max`),
    was_throttled: value("nr_throttled") > 0,
    throttled_longer_than_used: value("throttled_usec") > value("usage_usec"),
    too_short: main.write(`${GROUP}/cpu.max`, "10 100000"),
    no_number: main.write(`${GROUP}/cpu.max`, "fast"),
    none: main.write(`${GROUP}/cpu.max`, "max"),
    in_root: main.write("/sys/fs/cgroup/cpu.max", "max"),
  };
}
