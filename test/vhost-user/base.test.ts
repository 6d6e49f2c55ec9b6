// A front-end that says 0 for a ring that is somewhere else, as DPDK's virtio_user does for each
// back-end that connects.

import { expect, test } from "vitest";
import { u32s } from "#dist/bench/front-end.js";
import { describeVhostUser, eventually, Served } from "../helpers/vhost-user.js";
import { RawQueue } from "../helpers/vhost-user-ring.js";

const NUM = 8;

describeVhostUser("vhost-user: a base of 0", () => {
  test.each([
    ["begins at 0 where the ring does", 0, 0, 0],
    ["and 3 that were never used", 3, 0, 0],
    ["is the used index of a ring that is further on", 700, 700, 700],
    ["is 0 where the ring may be there", 2, 65533, 0],
    ["stays where the ring is broken", 709, 700, 0],
  ])("%s", async (_, avail, used, at) => {
    await using served = await Served.start();
    using front = await served.ready();
    const raw = new RawQueue(front, 0, NUM);
    front.shared.view.setUint16(raw.avail + 2, avail, true);
    front.shared.view.setUint16(raw.used + 2, used, true);
    await front.attach(raw.queue, 0);
    const state = await front.ask("GET_VRING_BASE", u32s(0, 0));
    expect(state.getUint32(4, true)).toBe(at);
  });

  test.each([
    ["what was in flight is popped again, without a kick", 703, 700],
    ["just before it wraps", 65535, 65533],
    ["a ring that is full, whose driver has no cause to kick", 708, 700],
  ])("%s", async (_, avail, used) => {
    await using served = await Served.start();
    using front = await served.ready();
    const raw = new RawQueue(front, 0, NUM);
    for (let head = 0; head < NUM; head++) {
      raw.writeDesc(head, { addr: raw.guest(raw.data), len: 16, flags: 0 });
      front.shared.view.setUint16(raw.avail + 4 + 2 * head, head, true);
    }
    raw.availIdx = avail;
    raw.usedIdx = used;
    await front.attach(raw.queue, 0);
    await eventually(() => raw.usedIdx === avail, "all is used");
    const state = await front.ask("GET_VRING_BASE", u32s(0, 0));
    expect(state.getUint32(4, true)).toBe(avail);
  });

  test("any other base counts as it is said", async () => {
    await using served = await Served.start();
    using front = await served.ready();
    const raw = new RawQueue(front, 0, NUM);
    for (const at of [raw.avail, raw.used]) front.shared.view.setUint16(at + 2, 700, true);
    await front.attach(raw.queue, 699);
    const state = await front.ask("GET_VRING_BASE", u32s(0, 0));
    expect(state.getUint32(4, true)).toBe(699);
  });
});
