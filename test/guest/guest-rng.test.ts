// A Linux guest's /dev/hwrng over `vhost-wasm serve rng`, with QEMU's vhost-user-rng-pci.

import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../helpers/source.js";
import { describeGuests, type Lab } from "./lab.js";
import { Program } from "./program.js";

const LIMIT = { timeout: 200_000 };

async function startBackEnd(lab: Lab, args: string[]) {
  const socket = lab.path("socket");
  const all = [join(ROOT, "dist/cli/main.js"), "serve", "rng", "--socket", socket, ...args];
  const program = new Program(lab.tools, process.execPath, all);
  await program.until(() => program.stdout.includes("listening"), "listening", 30_000);
  return { program, socket };
}

/** Boots a guest with the device, whose script ends by itself. */
function boot(lab: Lab, socket: string, properties: string, script: string) {
  return lab.boot({
    disks: [],
    root: { modules: ["virtio_rng"] },
    more: [
      ...["-chardev", `socket,id=rng,path=${socket}`],
      ...["-device", `vhost-user-rng-pci,chardev=rng${properties}`],
    ],
    script,
  });
}

describeGuests("a real guest's random numbers", (lab) => {
  test.each(["split", "packed"])("/dev/hwrng, %s", LIMIT, async (format) => {
    const { program, socket } = await startBackEnd(lab, []);
    try {
      const guest = await boot(
        lab,
        socket,
        format === "packed" ? ",packed=on" : "",
        `say current "$(cat /sys/class/misc/hw_random/rng_current)"
         dd if=/dev/hwrng of=/tmp/1 bs=1k count=64 iflag=fullblock
         dd if=/dev/hwrng of=/tmp/2 bs=1k count=64 iflag=fullblock
         say bytes $(cat /tmp/1 /tmp/2 | wc -c)
         say first $(sum </tmp/1)
         say second $(sum </tmp/2)
         say packed $(gzip -c /tmp/1 | wc -c)`,
      );
      expect(guest.value("current")).toBe("virtio_rng.0");
      expect(guest.value("bytes")).toBe("131072");
      expect(guest.value("first")).not.toBe(guest.value("second"));
      expect(Number(guest.value("packed"))).toBeGreaterThan(65536); // nothing to gain
    } finally {
      expect([await program.stop("SIGTERM"), program.stderr]).toEqual(["exit status 0", ""]);
    }
    expect(program.stdout).not.toMatch(/ring \d|refused/);
  });

  test("a rate holds for a guest, too", LIMIT, async () => {
    const { program, socket } = await startBackEnd(lab, ["--rate", "2K"]);
    try {
      const guest = await boot(
        lab,
        socket,
        "",
        `say from $(cut -d' ' -f1 /proc/uptime)
         dd if=/dev/hwrng of=/tmp/1 bs=1k count=10 iflag=fullblock
         say to $(cut -d' ' -f1 /proc/uptime)`,
      );
      const seconds = Number(guest.value("to")) - Number(guest.value("from"));
      expect(seconds).toBeGreaterThan(3.9); // 2 KiB at once, 8 by and by
    } finally {
      expect([await program.stop("SIGTERM"), program.stderr]).toEqual(["exit status 0", ""]);
    }
  });
});
