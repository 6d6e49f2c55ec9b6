// A front-end that says 0 for a ring that is somewhere else, as DPDK's virtio_user does for each
// back-end that connects.

import { expect, test, vi } from "vitest";
import { u32s } from "#dist/bench/front-end.js";
import { describeVhostUser, eventually, Served } from "../helpers/vhost-user.js";
import { RawQueue } from "../helpers/vhost-user-ring.js";

const NUM = 8;

/** A chain for each entry of the ring. */
function fill(raw: RawQueue): void {
  for (let head = 0; head < NUM; head++) {
    raw.writeDesc(head, { addr: raw.guest(raw.data), len: 16, flags: 0 });
    raw.setAvailHead(head, head);
  }
}

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
    fill(raw);
    raw.availIdx = avail;
    raw.usedIdx = used;
    await front.attach(raw.queue, 0);
    await eventually(() => raw.usedIdx === avail, "all is used");
    const state = await front.ask("GET_VRING_BASE", u32s(0, 0));
    expect(state.getUint32(4, true)).toBe(avail);
  });

  // DataView's builtins take two bytes one by one: 0xff, on its way to 0x100, was 0x1ff.
  test("an index that the driver moves meanwhile is read whole", async () => {
    await using served = await Served.start();
    using front = await served.ready();
    const raw = new RawQueue(front, 0, NUM);
    fill(raw);
    [raw.availIdx, raw.usedIdx] = [0xff, 0xfb];
    using _ = vi.spyOn(DataView.prototype, "getUint16").mockImplementation(function (
      this: DataView,
      at,
    ) {
      const low = this.getUint8(at);
      if (this.buffer instanceof SharedArrayBuffer && low === 0xff) raw.availIdx = 0x100;
      return low | (this.getUint8(at + 1) << 8);
    });
    await front.attach(raw.queue, 0);
    await eventually(() => raw.usedIdx === raw.availIdx, "all is used");
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
