// QEMU listens, `server=on`, and the back-end connects: to one guest after another, and again when
// it is killed and another one comes.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../helpers/source.js";
import { describeGuests, difference, type Lab, MIB, pattern, sha256 } from "./lab.js";
import { Program } from "./program.js";

const LIMIT = { timeout: 200_000 };
const KILLS = 2;
const STEPS = 20;
const STEP_BYTES = 65_536;
const WRITTEN = Buffer.concat(
  Array.from({ length: STEPS }, (_, step) => pattern(`step ${step}`, STEP_BYTES)),
);

async function startBackEnd(lab: Lab, socket: string, image: string): Promise<Program> {
  const args = [join(ROOT, "dist/cli/main.js"), "serve", "blk", "--connect"];
  args.push("--socket", socket, "--image", image);
  const program = new Program(lab.tools, process.execPath, args);
  await program.until(() => program.stdout.includes("connects to"), "a word", 30_000);
  return program;
}

const READS = `say sum $(dd if=/dev/vda bs=64k count=${STEPS} iflag=direct 2>/dev/null | sum)`;
/** Writes step by step, and says so; then reads it all back. */
const WRITES = `
  step=0
  while [ $step -lt ${STEPS} ]; do
    yes "step $step" | dd of=/dev/vda bs=64k seek=$step count=1 iflag=fullblock oflag=direct \
      conv=notrunc,fsync 2>/dev/null
    say step $step
    step=$((step + 1))
  done
  ${READS}
`;

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
    const sums = [first.value("sum"), second.value("sum")];
    expect(sums).toEqual(Array(2).fill(sha256(WRITTEN)));
    expect(difference(readFileSync(image).subarray(0, WRITTEN.length), WRITTEN)).toBeUndefined();
    expect(await backEnd.stop("SIGTERM")).toBe("exit status 0");
    expect(backEnd.stderr).toBe("");
    expect(backEnd.stdout.match(/\bconnected: /g)).toHaveLength(2);
  });
});
