// DPDK's testpmd as the one that listens, `server=1`, started again under a running
// `vhost-wasm serve net --connect`; and that started again under a running testpmd.

import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { describeGuests } from "./lab.js";
import { lastCounts, startSwitch } from "./net-switch.js";
import type { Program } from "./program.js";
import {
  type Forwarded,
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
const RUN_MS = 1000;
const RUNS = 2;

/** Ends it: what its ports have counted. */
async function finish(testpmd: Program): Promise<Forwarded[]> {
  expect(await testpmd.stop("SIGINT", 20_000)).toBe("exit status 0");
  return forwarded(testpmd.stdout);
}

describeGuests(titleOf("testpmd listens"), (lab) => {
  test.skipIf(SKIPS_TESTPMD).each([
    ["split", ""],
    ["packed", ",packed_vq=1"],
  ])(`${RUNS} of them, one after the other: %s`, LIMIT, async (_, properties) => {
    const { program, sockets } = await startSwitch(lab, ["--trust-memory", "--connect"]);
    const totals = [0, 1].map(() => ({ received: 0, sent: 0 }));
    let isFine = false;
    try {
      for (let run = 0; run < RUNS; run++) {
        const testpmd = startTestpmd(lab.tools, sockets, `,server=1${properties}`);
        await testpmd.until(() => hasReceived(testpmd, PACKETS), "packets", 30_000);
        await sleep(RUN_MS);
        for (const { port, received, sent } of await finish(testpmd)) {
          expect(received, `run ${run}`).toBeGreaterThan(PACKETS);
          const total = totals[port] as (typeof totals)[0];
          total.received += received;
          total.sent += sent;
        }
        for (const socket of sockets) rmSync(socket, { force: true }); // testpmd leaves them
      }
      isFine = true;
    } finally {
      const end = [await program.stop("SIGTERM"), program.stderr];
      if (isFine) expect(end).toEqual(["exit status 0", ""]);
    }
    const ours = lastCounts(program);
    for (const [port, { received, sent }] of totals.entries()) {
      // What lies in a ring as that is stopped was sent, and not received.
      expect(ours[port]?.received, `port ${port}`).toBeLessThanOrEqual(sent);
      expect(ours[port]?.received).toBeGreaterThanOrEqual(sent - RUNS * QUEUE_SIZE);
      // What it got after its forwarding had ended is in its ring, in each run.
      expect(ours[port]?.sent).toBeGreaterThanOrEqual(received);
      expect(ours[port]?.sent).toBeLessThanOrEqual(received + RUNS * QUEUE_SIZE);
    }
    expect(program.stdout.match(/connected: /g)).toHaveLength(2 * RUNS);
  });

  test.skipIf(SKIPS_TESTPMD).each([
    ["split", ""],
    ["packed", ",packed_vq=1"],
  ])("the back-end is killed and started again under it: %s", LIMIT, async (_, properties) => {
    const options = ["--trust-memory", "--connect", "--counts", "1"];
    let { program, sockets } = await startSwitch(lab, options);
    const mode = ["--forward-mode=txonly"];
    const testpmd = startTestpmd(lab.tools, sockets, `,server=1${properties}`, { mode });
    try {
      const isBusy = () => (lastCounts(program)[1]?.received ?? 0) > 1000;
      await program.until(isBusy, "packets", 30_000);
      for (let kill = 0; kill < 2; kill++) {
        await program.stop("SIGKILL");
        ({ program } = await startSwitch(lab, options, sockets));
        await program.until(isBusy, "packets", 30_000);
      }
      await finish(testpmd);
    } finally {
      await testpmd.stop("SIGKILL");
      expect([await program.stop("SIGTERM"), program.stderr]).toEqual(["exit status 0", ""]);
    }
  });
});
