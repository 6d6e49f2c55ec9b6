// DPDK's testpmd, with two virtio_user ports on the switch of `vhost-wasm serve net`.

import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { describeGuests } from "./lab.js";
import { lastCounts, startSwitch } from "./net-switch.js";
import {
  busyQueues,
  forwarded,
  hasReceived,
  QUEUE_SIZE,
  SKIPS_TESTPMD,
  startTestpmd,
  titleOf,
} from "./testpmd.js";

const LIMIT = { timeout: 120_000 };
/** How many go round at least, and for how long then, in milliseconds. */
const PACKETS = 1000;
const RUN_MS = 1500;

describeGuests(titleOf("testpmd"), (lab) => {
  test.skipIf(SKIPS_TESTPMD).each([
    ["split", ""],
    ["split, not mergeable", ",mrg_rxbuf=0"],
    ["split, in order", ",in_order=1"],
    ["packed", ",packed_vq=1"],
    ["packed, in order, not mergeable", ",packed_vq=1,in_order=1,mrg_rxbuf=0"],
    ["split, two queues", "", 2],
    ["packed, four queues", ",packed_vq=1", 4],
  ] as [string, string, number?][])(
    "packets go round, and both sides count the same: %s",
    LIMIT,
    async (...[, properties, queues = 1]) => {
      // Its memory is a file, which can't be sealed.
      const options = ["--trust-memory", "--queues", `${queues}`];
      const { program, sockets } = await startSwitch(lab, options);
      const testpmd = startTestpmd(lab.tools, sockets, properties, { queues });
      try {
        await testpmd.until(() => hasReceived(testpmd, PACKETS), "packets", 60_000);
        await sleep(RUN_MS);
        expect(await testpmd.stop("SIGINT", 20_000)).toBe("exit status 0");
      } finally {
        await testpmd.stop("SIGKILL");
        expect([await program.stop("SIGTERM"), program.stderr]).toEqual(["exit status 0", ""]);
      }
      const theirs = forwarded(testpmd.stdout);
      if (queues > 1) expect(busyQueues(testpmd.stdout)).toBe(2 * queues);
      const ours = lastCounts(program);
      expect(theirs.map(({ port }) => port)).toEqual([0, 1]);
      for (const { port, received, sent } of theirs) {
        const counts = ours[port];
        // What lies in a ring as that is stopped was sent, and not received.
        expect(counts?.received, `port ${port}`).toBeLessThanOrEqual(sent);
        expect(counts?.received).toBeGreaterThanOrEqual(sent - queues * QUEUE_SIZE);
        // What it got after its forwarding had ended is in its ring.
        expect(counts?.sent).toBeGreaterThanOrEqual(received);
        expect(counts?.sent).toBeLessThanOrEqual(received + QUEUE_SIZE);
        expect(received).toBeGreaterThan(PACKETS);
        expect(counts).toMatchObject({ filtered: 0, dropped: 0, missed: 0, discarded: 0 });
      }
    },
  );
});
