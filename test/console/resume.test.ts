// A console whose rings begin where a back-end before left them: its driver is told of its ports.

import { expect, test } from "vitest";
import { console as makeConsole } from "#dist/index.js";
import { describeVhostUser, eventually, Served } from "../helpers/vhost-user.js";
import { RawQueue } from "../helpers/vhost-user-ring.js";
import { QUIET_MS } from "../helpers/vhost-user-states.js";

const CONTROL_RX = 2;
const WRITE = 2;

describeVhostUser("a console's control queue", () => {
  test.each([
    ["at its beginning: the driver is waited for", 0, []],
    ["further on: it had a back-end before", 5, [1]], // PORT_ADD
  ])("%s", async (_, base, events) => {
    await using served = await Served.start({ device: makeConsole({ ports: [{ name: "a" }] }) });
    using front = await served.ready();
    const raw = new RawQueue(front, CONTROL_RX, 8);
    const { view } = front.shared;
    for (const area of [raw.avail, raw.used]) view.setUint16(area + 2, base, true);
    raw.writeDesc(0, { addr: raw.guest(raw.data), len: 64, flags: WRITE, next: 0 });
    raw.offer(0);
    await front.attach(raw.queue, base);
    raw.kick();
    const used = () => raw.usedIdx - base;
    if (events.length > 0) await eventually(() => used() > 0, "a message");
    else await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
    expect(used()).toBe(events.length);
    expect(events.map(() => view.getUint16(raw.data + 4, true))).toEqual(events);
  });
});
