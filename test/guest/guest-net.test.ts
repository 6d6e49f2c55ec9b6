// Two Linux guests on the switch of `vhost-wasm serve net`, with QEMU's vhost-user netdev.

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { describeGuests } from "./lab.js";
import { lastCounts, startSwitch } from "./net-switch.js";

const LIMIT = { timeout: 250_000 };
const MACS = ["52:54:00:00:00:01", "52:54:00:00:00:02"];
/** A transfer's size: 64 blocks of 64 KiB. */
const BLOCKS = 64;

/** busybox's nc ends at the end of either way: /tmp/open is an input that has none. */
const UP = (address: string) => `
  mkfifo /tmp/open
  ip link set eth0 up
  ip addr add ${address}/24 dev eth0
  say mac $(cat /sys/class/net/eth0/address)
`;

/** How a guest gets what another sends in large packets. */
const WHOLE = "whole";
const CUT = "in segments";

/** Pairs of queues, and CPUs. */
const QUEUES = 2;
/** What says how many there are, and how often each receive queue has interrupted. */
const COUNT_QUEUES = `
  queues=/sys/class/net/eth0/queues
  say queues "$(ls $queues | grep -c rx-) $(ls $queues | grep -c tx-)"
`;
const COUNT_INPUT = `
  grep 'virtio.-input' /proc/interrupts | while read line; do
    set -- $line
    say input $(($2 + $3))
  done
`;

/** From each CPU, pings and a file: a flow goes by the queues of the CPU that it is sent from. */
const MANY_FIRST = `
  ${UP("10.0.0.1")}
  ${COUNT_QUEUES}
  until ping -c 1 -W 1 10.0.0.2 >/dev/null; do :; done
  dd if=/dev/urandom of=/tmp/data bs=64k count=4 2>/dev/null
  say sent $(sum </tmp/data)
  for port in 1 2 3 4; do
    until taskset $((1 + port % 2)) nc 10.0.0.2 200$port </tmp/data; do sleep 0.2; done
  done
  ${COUNT_INPUT}
`;

const MANY_SECOND = `
  ${UP("10.0.0.2")}
  ${COUNT_QUEUES}
  for port in 1 2 3 4; do
    nc -l -p 200$port <>/tmp/open >/tmp/got$port
  done
  for port in 1 2 3 4; do
    say got $(sum </tmp/got$port)
  done
  ${COUNT_INPUT}
`;

/** Waits for the other, sends it a file over TCP, and is sent it back. */
const FIRST = `
  ${UP("10.0.0.1")}
  until ping -c 1 -W 1 10.0.0.2 >/dev/null; do :; done
  say pings "$(ping -c 5 -i 0.2 10.0.0.2 | grep received)"
  say long "$(ping -c 3 -i 0.2 -s 8000 10.0.0.2 | grep received)"
  dd if=/dev/urandom of=/tmp/data bs=64k count=${BLOCKS} 2>/dev/null
  say sent $(sum </tmp/data)
  until nc 10.0.0.2 1234 </tmp/data; do sleep 0.2; done
  until nc 10.0.0.2 1235 <>/tmp/open >/tmp/back; do sleep 0.2; done
  say back $(sum </tmp/back)
`;

const SECOND = `
  ${UP("10.0.0.2")}
  nc -l -p 1234 <>/tmp/open >/tmp/got
  say got $(sum </tmp/got)
  nc -l -p 1235 </tmp/got
`;

describeGuests("two real guests on a switch", (lab) => {
  test.each([
    ["split, mergeable", "", WHOLE],
    ["split, not mergeable", ",mrg_rxbuf=off", WHOLE],
    ["packed, mergeable, cut and with checksums", ",packed=on,guest_csum=off", CUT],
  ] as const)("ping, and a file over TCP both ways: %s", LIMIT, async (_, properties, sent) => {
    const pcap = lab.path("capture.pcap");
    const { program, sockets } = await startSwitch(lab, ["--pcap", pcap]);
    const [first, second] = [FIRST, SECOND].map((script, index) =>
      lab.start({
        disks: [],
        root: { modules: ["virtio_net"] },
        more: [
          ...["-chardev", `socket,id=net,path=${sockets[index]}`],
          ...["-netdev", "vhost-user,id=lan,chardev=net"],
          "-device",
          `virtio-net-pci,netdev=lan,mac=${MACS[index]},disable-legacy=on${properties}`,
        ],
        script,
        limitMs: 200_000,
      }),
    );
    if (!first || !second) throw new Error("two guests");
    try {
      await Promise.all([first.finish(), second.finish()]);
      expect(first.value("mac")).toBe(MACS[0]);
      expect(first.value("pings")).toMatch(/5 packets received, 0% packet loss/);
      expect(first.value("long")).toMatch(/3 packets received, 0% packet loss/);
      expect(second.value("got")).toBe(first.value("sent"));
      expect(first.value("back")).toBe(first.value("sent"));
    } finally {
      expect([await program.stop("SIGTERM"), program.stderr]).toEqual(["exit status 0", ""]);
    }
    const [a, b] = lastCounts(program);
    const bytes = BLOCKS * 65536;
    for (const counts of [a, b]) {
      expect(counts?.receivedBytes).toBeGreaterThan(bytes);
      // Half of all packets say no more than what has come.
      expect((counts?.receivedBytes ?? 0) / (counts?.received ?? 1)).toBeGreaterThan(1460);
      const { sentBytes = 0, sent: packets = 1 } = counts ?? {};
      if (sent === CUT) expect(sentBytes / packets).toBeLessThan(1514);
      else expect(sentBytes / packets).toBeGreaterThan(1514);
    }
    expect(readFileSync(pcap).length).toBeGreaterThan(2 * bytes);
  });

  test("several pairs of queues: each has interrupts, and a CPU's flows", LIMIT, async () => {
    const { program, sockets } = await startSwitch(lab, ["--queues", `${QUEUES}`]);
    const [first, second] = [MANY_FIRST, MANY_SECOND].map((script, index) =>
      lab.start({
        disks: [],
        cpus: QUEUES,
        root: { modules: ["virtio_net"] },
        more: [
          ...["-chardev", `socket,id=net,path=${sockets[index]}`],
          ...["-netdev", `vhost-user,id=lan,chardev=net,queues=${QUEUES}`],
          "-device",
          `virtio-net-pci,netdev=lan,mac=${MACS[index]},mq=on,vectors=${2 * QUEUES + 2}`,
        ],
        script,
        limitMs: 200_000,
      }),
    );
    if (!first || !second) throw new Error("two guests");
    try {
      await Promise.all([first.finish(), second.finish()]);
      for (const guest of [first, second]) {
        expect(guest.value("queues")).toBe(`${QUEUES} ${QUEUES}`);
      }
      expect(second.values("got")).toEqual(Array(4).fill(first.value("sent")));
      const interrupts = [...first.values("input"), ...second.values("input")].map(Number);
      expect(interrupts).toHaveLength(2 * QUEUES);
      for (const count of interrupts) expect(count).toBeGreaterThan(0);
    } finally {
      expect([await program.stop("SIGTERM"), program.stderr]).toEqual(["exit status 0", ""]);
    }
    for (const counts of lastCounts(program)) expect(counts).toMatchObject({ dropped: 0 });
  });
});
