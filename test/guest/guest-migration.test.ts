// A guest that moves to another QEMU while its disk is read into its memory: what the back-end
// writes there meanwhile is moved, too, for it is marked in the dirty log.
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { describeGuests, MIB, sha256 } from "./lab.js";
import { Qmp } from "./qmp.js";

const ROUNDS = 14;

/**
 * Fills the page cache from the disk, over and over, and takes the sum of what is there some time
 * after: pages that the device alone has written.
 */
const SCRIPT = `
  round=0
  while [ $round -lt ${ROUNDS} ]; do
    echo 3 >/proc/sys/vm/drop_caches
    cat /dev/vda >/dev/null
    usleep 100000
    say sum $(sum </dev/vda)
    round=$((round + 1))
  done
`;

describeGuests("a real guest that is migrated", (lab) => {
  test.each(["split", "packed"])(
    "reads the same before, meanwhile and after: %s",
    {
      timeout: 240_000,
    },
    async (format) => {
      const image = lab.path("disk.img");
      const bytes = randomBytes(4 * MIB);
      writeFileSync(image, bytes);
      const properties = format === "packed" ? { properties: "packed=on" } : {};
      const start = async (name: string, more: string[]) => {
        const backEnd = await lab.serve({ image, readOnly: true, queues: 2 });
        const monitor = lab.path(name);
        const guest = lab.start({
          ...{ disks: [{ backEnd, queues: 2, ...properties }], cpus: 2, script: SCRIPT },
          more: ["-qmp", `unix:${monitor},server=on,wait=off`, ...more],
          limitMs: 200_000,
        });
        return { guest, monitor, backEnd };
      };
      const uri = `unix:${lab.path("migration")}`;
      const to = await start("to", ["-incoming", uri]);
      const from = await start("from", []);
      using target = await Qmp.connect(to.monitor);
      using source = await Qmp.connect(from.monitor);
      await from.guest.until("sum", 2); // all else is there: its rounds may be over soon
      await source.run("migrate-set-parameters", { "max-bandwidth": 2 ** 30 });
      await source.migrate(uri);
      expect(await target.run("query-status")).toMatchObject({ running: true });
      await source.run("quit");
      await to.guest.program.ended;
      const before = from.guest.values("sum");
      const after = to.guest.values("sum");
      expect(to.guest.values("done"), to.guest.console).toEqual(["0"]);
      expect(before.length).toBeGreaterThan(0);
      expect(after.length).toBeGreaterThan(0);
      expect(new Set([...before, ...after])).toEqual(new Set([sha256(bytes)]));
      for (const { backEnd } of [from, to]) await backEnd.stop();
    },
  );
});
