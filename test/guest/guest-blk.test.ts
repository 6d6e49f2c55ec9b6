import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { IS_PEER } from "./back-end.js";
import { describeGuests, difference, type Lab, MIB, pattern, sha256 } from "./lab.js";

const LIMIT = { timeout: 400_000 };

/** A file out of the file system in an image, as e2fsprogs finds it. */
function fileInImage(lab: Lab, image: string, path: string): Buffer {
  const copy = lab.path("dumped");
  execFileSync(lab.tools.debugfs, ["-R", `dump ${path} ${copy}`, image], { stdio: "ignore" });
  return readFileSync(copy);
}

/**
 * A disk of 16 MiB: reads all of it; makes a file system in the first 12 MiB, and writes to it
 * from every CPU at once; writes past it, from every CPU at once, without the page cache.
 * Then a restart of the guest: it reads everything back.
 */
const WRITE_AND_RESTART = `
  show() {
    for file in /mnt/*; do
      [ ! -f $file ] || say $1:\${file##*/} $(sum <$file)
    done
    say $1:raw $(dd if=/dev/vda bs=64k skip=208 count=32 iflag=direct 2>/dev/null | sum)
  }
  if mount -t ext4 /dev/vda /mnt 2>/dev/null; then
    show second
    umount /mnt
    exit
  fi
  say bytes $(blockdev --getsize64 /dev/vda)
  say packed $(cut -c35 /sys/block/vda/device/features)
  say queues $(ls /sys/block/vda/mq | wc -l)
  say whole $(sum </dev/vda)
  mke2fs -F /dev/vda 12288 >/dev/null
  mount -t ext4 /dev/vda /mnt
  cpus=$(nproc)
  for cpu in $(seq 0 $((cpus - 1))); do
    taskset $((1 << cpu)) sh -ec "
      dd if=/dev/urandom of=/mnt/random$cpu bs=64k count=32 conv=fsync
      yes 'past the file system' | dd of=/dev/vda bs=4k seek=$((3328 + cpu * 512 / cpus)) \\
        count=$((512 / cpus)) iflag=fullblock oflag=direct conv=notrunc
      cp /bin/busybox /mnt/busybox$cpu
      echo ok >/tmp/$cpu" 2>/dev/null &
  done
  wait
  say writers $(cat /tmp/* | wc -l)
  umount /mnt
  sync
  mount -t ext4 /dev/vda /mnt
  show first
  umount /mnt
  restart
`;

describeGuests("a real guest", (lab) => {
  test.each([
    [1, "split"],
    [2, "split"],
    [2, "packed"],
  ])("writes, restarts and reads: %i CPUs and queues, %s", LIMIT, async (cpus, format) => {
    const image = lab.path("disk.img");
    const before = randomBytes(16 * MIB);
    writeFileSync(image, before);
    const backEnd = await lab.serve({ image, queues: cpus });
    const disks = [
      { backEnd, queues: cpus, ...(format === "packed" && { properties: "packed=on" }) },
    ];
    const guest = await lab.boot({ disks, cpus, restarts: 1, script: WRITE_AND_RESTART });
    await backEnd.stop();

    expect(guest.value("bytes")).toBe(String(before.length));
    expect(guest.value("queues")).toBe(String(cpus));
    expect(guest.value("packed")).toBe(format === "packed" ? "1" : "0");
    expect(guest.value("writers")).toBe(String(cpus));
    expect(guest.value("whole")).toBe(sha256(before));
    execFileSync(lab.tools.e2fsck, ["-fn", image], { stdio: "pipe" });
    const busybox = readFileSync(lab.tools.busybox);
    for (let cpu = 0; cpu < cpus; cpu++) {
      expect(difference(fileInImage(lab, image, `busybox${cpu}`), busybox)).toBeUndefined();
      const random = fileInImage(lab, image, `random${cpu}`);
      expect(random.length).toBe(2 * MIB);
      for (const boot of ["first", "second"]) {
        expect(guest.value(`${boot}:busybox${cpu}`)).toBe(sha256(busybox));
        expect(guest.value(`${boot}:random${cpu}`)).toBe(sha256(random));
      }
    }
    const after = readFileSync(image);
    const raw = after.subarray(13 * MIB, 15 * MIB);
    for (const boot of ["first", "second"]) expect(guest.value(`${boot}:raw`)).toBe(sha256(raw));
    const part = pattern("past the file system", raw.length / cpus);
    expect(difference(raw, Buffer.concat(Array(cpus).fill(part)))).toBeUndefined();
    // Nobody wrote here.
    expect(after.length).toBe(before.length);
    expect(
      difference(after.subarray(12 * MIB, 13 * MIB), before.subarray(12 * MIB, 13 * MIB)),
    ).toBeUndefined();
    expect(difference(after.subarray(15 * MIB), before.subarray(15 * MIB))).toBeUndefined();
  });

  test("can't write to a read-only disk, and sees its id", LIMIT, async () => {
    const image = lab.path("disk.img");
    const before = randomBytes(2 * MIB);
    writeFileSync(image, before);
    const id = "guest-disk-012345678";
    const backEnd = await lab.serve({ image, readOnly: true, id });
    const script = `
      say id "$(cat /sys/block/vda/serial)"
      say readonly $(cat /sys/block/vda/ro)
      if echo changed | dd of=/dev/vda conv=notrunc,fsync; then say written yes; fi
      blockdev --setrw /dev/vda || true
      if echo changed | dd of=/dev/vda conv=notrunc,fsync; then say written yes; fi
      echo 3 >/proc/sys/vm/drop_caches
      say whole $(sum </dev/vda)
    `;
    const guest = await lab.boot({ disks: [{ backEnd }], script });
    await backEnd.stop();

    if (!IS_PEER) expect(guest.value("id")).toBe(id);
    expect(guest.value("readonly")).toBe("1");
    expect(guest.values("written")).toEqual([]);
    expect(guest.value("whole")).toBe(sha256(before));
    expect(difference(readFileSync(image), before)).toBeUndefined();
  });

  test("runs beside another one, each with its own disk", LIMIT, async () => {
    const names = ["left", "right"];
    const script = (name: string) => `
      say whole $(sum </dev/vda)
      yes ${name} | dd of=/dev/vda bs=4k seek=256 count=512 \\
        iflag=fullblock oflag=direct conv=notrunc
      for round in 1 2 3; do
        say part $(dd if=/dev/vda bs=64k skip=16 count=32 iflag=direct | sum)
      done
    `;
    const pairs = await Promise.all(
      names.map(async (name) => {
        const image = lab.path(`${name}.img`);
        const before = randomBytes(4 * MIB);
        writeFileSync(image, before);
        return { name, image, before, backEnd: await lab.serve({ image, id: name }) };
      }),
    );
    await Promise.all(
      pairs.map(async ({ name, image, before, backEnd }) => {
        const disks = [{ backEnd }];
        const guest = await lab.boot({ disks, script: script(name) });
        await backEnd.stop();
        const part = pattern(name, 2 * MIB);
        expect(guest.value("whole")).toBe(sha256(before));
        expect(guest.values("part")).toEqual(Array(3).fill(sha256(part)));
        const expected = Buffer.concat([before.subarray(0, MIB), part, before.subarray(3 * MIB)]);
        expect(difference(readFileSync(image), expected)).toBeUndefined();
      }),
    );
  });
});
