// A back-end that is killed in the middle of a guest's I/O; the next one goes on with what was in
// flight, as the area that QEMU keeps says.
import { execFileSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { describeGuests, difference, MIB, pattern, sha256 } from "./lab.js";

const KILLS = 4;
const STEPS = 32;
const BLOCK = 4096;
/** Blocks of a step, one request each, several in flight. */
const BLOCKS = 64;
/** Where steps are written, in bytes; the noise and the file system are on the other disk. */
const STEP_BYTES = BLOCKS * BLOCK;

/** Writes step after step past the page cache, reads each back, and says so. */
const SCRIPT = `
  mount -t ext4 /dev/vdb /mnt
  while :; do dd if=/dev/urandom of=/mnt/noise bs=64k count=16 conv=fsync; done 2>/dev/null &
  for part in 0 1 2 3; do
    while :; do
      dd if=/dev/vda of=/dev/null bs=${BLOCK} skip=$((part * 64)) count=64 iflag=direct
    done 2>/dev/null &
  done
  step=0
  while [ $step -lt ${STEPS} ]; do
    yes "step $step" | dd of=/dev/vda bs=${BLOCK} seek=$((step * ${BLOCKS})) count=${BLOCKS} \
      iflag=fullblock oflag=direct conv=notrunc,fsync 2>/dev/null
    yes "step $step" | dd of=/mnt/$step bs=${2 * BLOCK} count=1 \
      iflag=fullblock conv=fsync 2>/dev/null
    say step $step
    step=$((step + 1))
  done
  kill $(jobs -p)
  wait || true
  rm /mnt/noise
  say steps $(dd if=/dev/vda bs=${STEP_BYTES} count=${STEPS} iflag=direct | sum)
  umount /mnt
`;

describeGuests("a real guest whose back-end is killed", (lab) => {
  test.each(["split", "packed"])(
    `${KILLS} times loses nothing: %s`,
    { timeout: 300_000 },
    async (format) => {
      const raw = lab.path("raw.img");
      writeFileSync(raw, new Uint8Array(32 * MIB));
      const journaled = lab.path("ext4.img");
      writeFileSync(journaled, new Uint8Array(32 * MIB));
      execFileSync(lab.tools.mke2fs, ["-q", "-F", "-t", "ext4", journaled], { stdio: "pipe" });
      const backEnds = [
        await lab.serve({ image: raw, queues: 2 }),
        await lab.serve({ image: journaled, queues: 2 }),
      ];
      const properties = format === "packed" ? "packed=on" : undefined;
      const disks = backEnds.map((backEnd) => ({
        ...{ backEnd, queues: 2, reconnects: true },
        ...(properties && { properties }),
      }));
      const guest = lab.start({ disks, cpus: 2, script: SCRIPT, limitMs: 280_000 });
      for (let kill = 0; kill < KILLS; kill++) {
        await guest.until("step", 1 + kill * 6 + randomInt(6));
        await sleep(randomInt(30));
        await backEnds[kill % 2]?.replace();
      }
      await guest.finish();
      for (const backEnd of backEnds) await backEnd.stop();

      const steps = Array.from({ length: STEPS }, (_, step) => pattern(`step ${step}`, STEP_BYTES));
      expect(guest.value("steps")).toBe(sha256(Buffer.concat(steps)));
      const after = readFileSync(raw).subarray(0, STEPS * STEP_BYTES);
      expect(difference(after, Buffer.concat(steps))).toBeUndefined();
      execFileSync(lab.tools.e2fsck, ["-fn", journaled], { stdio: "pipe" });
    },
  );
});
