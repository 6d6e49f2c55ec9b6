// QEMU listens, `server=on`, and the back-end connects: to one guest after another, and again when
// it is killed and another one comes.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../helpers/source.js";
import { describeGuests, type Lab, MIB } from "./lab.js";
import { Program } from "./program.js";

const LIMIT = { timeout: 200_000 };
const KILLS = 2;

async function startBackEnd(lab: Lab, socket: string, image: string): Promise<Program> {
  const args = [join(ROOT, "dist/cli/main.js"), "serve", "blk", "--connect"];
  args.push("--socket", socket, "--image", image);
  const program = new Program(lab.tools, process.execPath, args);
  await program.until(() => program.stdout.includes("connects to"), "a word", 30_000);
  return program;
}

/** Writes and reads back, step by step, and says so. */
const WRITES = `
  step=0
  while [ $step -lt 20 ]; do
    yes "step $step" | dd of=/dev/vda bs=64k seek=$step count=1 iflag=fullblock oflag=direct \
      conv=notrunc,fsync 2>/dev/null
    say step $step
    step=$((step + 1))
  done
  say sum $(dd if=/dev/vda bs=64k count=20 iflag=direct 2>/dev/null | sum)
`;
const READS = "say sum $(dd if=/dev/vda bs=64k count=20 iflag=direct 2>/dev/null | sum)";

describeGuests("QEMU listens", (lab) => {
  test("guest after guest, and back-end after back-end: nothing is lost", LIMIT, async () => {
    const socket = lab.path("socket");
    const image = lab.path("disk.img");
    writeFileSync(image, new Uint8Array(4 * MIB));
    const more = [
      ...["-chardev", `socket,id=disk,path=${socket},server=on`],
      ...["-device", "vhost-user-blk-pci,chardev=disk,disable-legacy=on,num-queues=1"],
    ];
    let backEnd = await startBackEnd(lab, socket, image);
    const first = lab.start({ disks: [], more, script: WRITES });
    for (let kill = 0; kill < KILLS; kill++) {
      await first.until("step", 5 * (kill + 1));
      await backEnd.stop("SIGKILL");
      backEnd = await startBackEnd(lab, socket, image);
    }
    await first.finish();
    const second = await lab.boot({ disks: [], more, script: READS });
    expect(second.value("sum")).toBe(first.value("sum"));
    expect(await backEnd.stop("SIGTERM")).toBe("exit status 0");
    expect(backEnd.stderr).toBe("");
    expect(backEnd.stdout.match(/\bconnected: /g)).toHaveLength(2);
  });
});
