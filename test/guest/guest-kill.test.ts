import { execFileSync } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { describeGuests, difference, MIB, pattern, sha256 } from "./lab.js";

const KILLS = 3;
const BLOCK = 4096;
/** Written to the first disk in each step, one request a block. */
const BLOCKS = 16;
/** What the noise is written to, in bytes from the start of the first disk. */
const NOISE = { start: 24 * MIB, end: 28 * MIB };

const blocksOf = (step: number) => pattern(`block ${step}`, BLOCKS * BLOCK);
const fileOf = (step: number) => pattern(`file ${step}`, 2 * BLOCK);
const steps = (count: number) => Array.from({ length: count }, (_, step) => step);

/** Fills the noise's place with a line. */
const noise = (line: string) => `
  yes "${line}" | dd of=/dev/vda bs=256k seek=96 count=16 iflag=fullblock conv=notrunc,fsync`;

/**
 * Step by step writes blocks to the first disk, without the page cache, and a file to the second,
 * and says each step when all is synced; noise on both disks keeps many requests in flight.
 */
const writeFrom = (step: number) => `
  mount -t ext4 /dev/vdb /mnt
  while :; do ${noise(`before step ${step}`)}; done 2>/dev/null &
  while :; do
    dd if=/dev/urandom of=/mnt/noise bs=64k count=16 conv=fsync
    rm /mnt/noise
  done 2>/dev/null &
  step=${step}
  while :; do
    yes "block $step" | dd of=/dev/vda bs=${BLOCK} seek=$((step * ${BLOCKS})) count=${BLOCKS} \\
      iflag=fullblock oflag=direct conv=notrunc,fsync 2>/dev/null
    yes "file $step" | dd of=/mnt/$step bs=${2 * BLOCK} count=1 \\
      iflag=fullblock conv=fsync 2>/dev/null
    say synced $step
    step=$((step + 1))
  done
`;

const readAll = (count: number) => `
  mount -t ext4 /dev/vdb /mnt
  say blocks $(dd if=/dev/vda bs=${BLOCKS * BLOCK} count=${count} iflag=direct | sum)
  cd /mnt
  say files $(cat $(seq 0 ${count - 1}) | sum)
  cd /
  umount /mnt
  ${noise("at the end")}
`;

describeGuests("a real guest whose QEMU is killed", (lab) => {
  test(`${KILLS} times finds all that it had synced`, { timeout: 600_000 }, async () => {
    const raw = lab.path("raw.img");
    const before = randomBytes(32 * MIB);
    writeFileSync(raw, before);
    const journaled = lab.path("ext4.img");
    writeFileSync(journaled, new Uint8Array(32 * MIB));
    execFileSync(lab.tools.mke2fs, ["-q", "-F", "-t", "ext4", journaled], { stdio: "pipe" });
    const backEnds = [
      await lab.serve({ image: raw, queues: 2 }),
      await lab.serve({ image: journaled, queues: 2 }),
    ];
    const disksFor = (queues: number) => backEnds.map((backEnd) => ({ backEnd, queues }));

    let synced = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const cpus = 1 + (kill % 2);
      const guest = lab.start({ disks: disksFor(cpus), cpus, script: writeFrom(synced) });
      await guest.until("synced", randomInt(4, 12));
      await sleep(randomInt(50));
      await guest.kill();
      const told = guest.values("synced").map(Number);
      expect(told).toEqual(told.map((_, index) => synced + index));
      synced += told.length;
      const blocks = Buffer.concat(steps(synced).map(blocksOf));
      expect(difference(readFileSync(raw).subarray(0, blocks.length), blocks)).toBeUndefined();
    }
    const guest = await lab.boot({ disks: disksFor(1), script: readAll(synced) });
    for (const backEnd of backEnds) await backEnd.stop();

    const blocks = Buffer.concat(steps(synced).map(blocksOf));
    expect(guest.value("blocks")).toBe(sha256(blocks));
    expect(guest.value("files")).toBe(sha256(Buffer.concat(steps(synced).map(fileOf))));

    const after = readFileSync(raw);
    expect(difference(after.subarray(0, blocks.length), blocks)).toBeUndefined();
    // A write that was late, from a guest that is gone, would be seen here.
    const last = pattern("at the end", NOISE.end - NOISE.start);
    expect(difference(after.subarray(NOISE.start, NOISE.end), last)).toBeUndefined();
    // Nobody wrote here, but for one step that was perhaps on its way when QEMU was killed.
    for (const [start, end] of [
      [(synced + 1) * BLOCKS * BLOCK, NOISE.start],
      [NOISE.end, before.length],
    ]) {
      expect(difference(after.subarray(start, end), before.subarray(start, end))).toBeUndefined();
    }
    execFileSync(lab.tools.e2fsck, ["-fn", journaled], { stdio: "pipe" });
    const dumped = lab.path("files");
    mkdirSync(dumped);
    execFileSync(lab.tools.debugfs, ["-R", `rdump / ${dumped}`, journaled], { stdio: "pipe" });
    for (const step of steps(synced)) {
      expect(difference(readFileSync(join(dumped, String(step))), fileOf(step))).toBeUndefined();
    }
  });
});
