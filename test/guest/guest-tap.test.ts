// A Linux guest and the host itself over a TAP of `vhost-wasm serve net`.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { buffer } from "node:stream/consumers";
import { expect, test } from "vitest";
import { bringUp, describeTaps, ip, NETWORK, removeAll, tapName } from "../helpers/taps.js";
import { describeGuests, type Lab, sha256 } from "./lab.js";
import { lastCounts, startSwitch } from "./net-switch.js";

/** Not that of the tests that run beside this one in CI. */
const LAN = NETWORK.replace("198.18", "198.19");
const HOST = `${LAN}.1`;
const GUEST = `${LAN}.2`;
const FILE_BYTES = 2 << 20;

/** busybox's nc ends at the end of either way: /tmp/open is an input that has none. */
const script = (port: number) => `
  mkfifo /tmp/open
  ip link set eth0 up
  ip addr add ${GUEST}/24 dev eth0
  say pings "$(ping -c 3 -i 0.1 ${HOST} | grep received)"
  say long "$(ping -c 3 -i 0.1 -s 8000 ${HOST} | grep received)"
  dd if=/dev/urandom of=/tmp/data bs=64k count=${FILE_BYTES >> 16} 2>/dev/null
  say sent $(sum </tmp/data)
  nc ${HOST} ${port} </tmp/data
  say listens 1
  nc -l -p 1234 <>/tmp/open >/tmp/got
  say got $(sum </tmp/got)
`;

/** Listens at the host's address: what the first who connects sends. */
async function takeFile() {
  const server = createServer();
  server.listen(0, HOST);
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const file = once(server, "connection").then(([socket]) => buffer(socket));
  return { port, file, [Symbol.dispose]: () => void server.close() };
}

/** Connects to the guest, which will listen, and sends all of it. */
async function giveFile(bytes: Uint8Array): Promise<void> {
  for (;;) {
    const socket = connect({ port: 1234, host: GUEST });
    const isConnected = await once(socket, "connect").then(
      () => true,
      () => false,
    );
    if (!isConnected) continue;
    socket.end(bytes);
    await once(socket, "close");
    return;
  }
}

function startGuest(lab: Lab, socket: string, port: number, properties: string) {
  return lab.start({
    disks: [],
    root: { modules: ["virtio_net"] },
    more: [
      ...["-chardev", `socket,id=net,path=${socket}`],
      ...["-netdev", "vhost-user,id=lan,chardev=net"],
      "-device",
      `virtio-net-pci,netdev=lan,mac=52:54:00:00:00:01,disable-legacy=on${properties}`,
    ],
    script: script(port),
    limitMs: 100_000,
  });
}

describeTaps("through a TAP", () =>
  describeGuests("a real guest and its host", (lab) => {
    test.each([
      ["split, large packets left whole", "", true],
      ["packed, checksums made, packets cut", ",packed=on,csum=off,guest_csum=off", false],
    ])("ping, and a file over TCP each way: %s", { timeout: 120_000 }, async (...way) => {
      const name = tapName();
      const pcap = lab.path("capture.pcap");
      const { program, sockets } = await startSwitch(lab, ["--tap", name, "--pcap", pcap]);
      try {
        bringUp(name, `${HOST}/24`);
        using taken = await takeFile();
        const guest = startGuest(lab, sockets[0] as string, taken.port, way[1]);
        const file = await taken.file;
        await guest.until("listens");
        const back = randomBytes(FILE_BYTES);
        await giveFile(back);
        await guest.finish();
        expect(guest.value("pings")).toMatch(/3 packets received, 0% packet loss/);
        expect(guest.value("long")).toMatch(/3 packets received, 0% packet loss/);
        expect(sha256(file)).toBe(guest.value("sent"));
        expect(guest.value("got")).toBe(sha256(back));
        const sent = /\bRX:.*\n\s+(\d+)/.exec(ip("-s", "link", "show", "dev", name))?.[1];
        expect(Number(sent)).toBeGreaterThan(FILE_BYTES);
      } finally {
        expect([await program.stop("SIGTERM"), program.stderr]).toEqual(["exit status 0", ""]);
        removeAll();
      }
      expect(existsSync(`/sys/class/net/${name}`)).toBe(false);
      const [port, , tap] = lastCounts(program);
      expect(tap).toMatchObject({ tap: name, discarded: 0, filtered: 0 });
      expect(tap?.receivedBytes).toBeGreaterThan(FILE_BYTES);
      expect(port?.receivedBytes).toBeGreaterThan(FILE_BYTES);
      const average = (one = port) => (one?.receivedBytes ?? 0) / (one?.received ?? 1);
      expect(average(tap)).toBeGreaterThan(2000); // not cut by the host
      if (way[2]) expect(average()).toBeGreaterThan(2000);
      else expect(average()).toBeLessThan(1515);
      expect(readFileSync(pcap).length).toBeGreaterThan(2 * FILE_BYTES);
    });
  }),
);
