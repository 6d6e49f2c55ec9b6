// A Linux guest's own virtio_console over vhost-user, its log-in seen and answered from Node.
//
// No QEMU of now has a front-end for a vhost-user console that a user may have (its generic
// vhost-user-device is not for users). Its vhost-user-snd passes all on, has a console's four
// queues and as many bytes of configuration: it is the front-end here. The guest's driver is told
// so: in its table of device numbers, console (3) is made sound (25). No other byte differs.

import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { console as makeConsole, serveVhostUser } from "#dist/index.js";
import { VIRTIO_ID_CONSOLE } from "#dist/spec/virtio-config.js";
import { file, folder } from "./initramfs.js";
import { describeGuests, type Lab } from "./lab.js";

const LIMIT = { timeout: 200_000 };
const VIRTIO_ID_SOUND = 25;
const ANY_VENDOR = 0xffffffff;

/** The kernel, with a console driver that takes QEMU's sound device for a console. */
function consoleKernel(lab: Lab): string {
  const kernel = readFileSync(lab.home.kernel);
  // struct virtio_device_id id_table[]: one entry, and the end.
  const table = Buffer.alloc(16);
  table.writeUInt32LE(VIRTIO_ID_CONSOLE, 0);
  table.writeUInt32LE(ANY_VENDOR, 4);
  const at = kernel.indexOf(table);
  expect(at).toBeGreaterThan(0);
  expect(kernel.indexOf(table, at + 1)).toBe(-1);
  kernel.writeUInt32LE(VIRTIO_ID_SOUND, at);
  const path = lab.path("vmlinux");
  writeFileSync(path, kernel);
  return path;
}

describeGuests("a real guest's console", (lab) => {
  test.each(["split", "packed"])("log-in, commands, resize, %s", LIMIT, async (format) => {
    const terminal = makeConsole({ ports: [{ name: "tty" }], cols: 101, rows: 33 });
    const stream = terminal.open(0);
    let screen = "";
    stream.on("data", (bytes) => {
      screen += bytes;
    });
    const events: string[] = [];
    const socketPath = lab.path("socket");
    await using _ = await serveVhostUser({
      socketPath,
      device: terminal,
      onEvent: ({ event }) => events.push(event),
    });
    const packed = format === "packed" ? ",packed=on" : "";
    const guest = lab.start({
      disks: [],
      kernel: consoleKernel(lab),
      root: {
        files: [
          folder("etc"),
          file("etc/passwd", "root::0:0:root:/:/bin/sh\n", 0o100644),
          file("etc/group", "root:x:0:\n", 0o100644),
        ],
      },
      more: [
        ...["-chardev", `socket,id=console,path=${socketPath}`],
        ...["-device", `vhost-user-snd-pci,chardev=console${packed}`],
      ],
      script: `
        hostname guest
        ln -s busybox /bin/login; ln -s busybox /bin/sh
        say name "$(cat /sys/class/virtio-ports/vport0p0/name)"
        while [ ! -e /tmp/done ]; do getty -L 115200 hvc0 vt100 || sleep 1; done
      `,
      limitMs: 120_000,
    });
    const seen = async (what: RegExp) => {
      try {
        await guest.program.until(() => what.test(screen), String(what), 40_000);
      } catch (error) {
        throw new Error(`${(error as Error).message}\n${screen}\n${guest.console}`);
      }
    };
    await seen(/guest login: $/);
    expect(terminal.isGuestOpen(0)).toBe(true);
    stream.write("root\n");
    await seen(/# /);
    stream.write("stty size; echo $((6 * 7))\n");
    await seen(/\n33 101\r\n42\r\n/);
    screen = "";
    stream.write(
      "seq 1 20000 | tail -c 60000 | tee /tmp/out | cat; sha256sum </tmp/out; echo en''d\n",
    );
    await seen(/\nend\r\n/);
    expect(screen).toContain("19998\r\n19999\r\n20000\r\n");
    screen = "";
    terminal.resize(132, 43);
    await expect
      .poll(
        () => {
          stream.write("stty size\n");
          return screen;
        },
        { timeout: 20_000, interval: 300 },
      )
      .toMatch(/\n43 132\r\n/);
    stream.write("touch /tmp/done; exit\n");
    await guest.finish();
    expect(guest.value("name")).toBe("tty");
    await expect.poll(() => events.at(-1)).toBe("disconnected");
    expect(events).toEqual(["listening", "connected", "disconnected"]);
    expect(terminal.lostBytes(0)).toBe(0);
    stream.destroy();
  });
});
