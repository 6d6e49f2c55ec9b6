// SEND_RARP: after a migration the front-end says whose guest it is, and the network is told. QEMU
// does so for a guest that can't announce itself. Section "Protocol features".

import { expect, test } from "vitest";
import { type FrontEnd, u64s } from "#dist/bench/front-end.js";
import { Kernel, net, rng, Switch, type SwitchPortOptions } from "#dist/index.js";
import { VHOST_USER_PROTOCOL_F_RARP } from "#dist/spec/vhost-user.js";
import { macBytes, station } from "../helpers/net-frames.js";
import { bit } from "../helpers/raw-guest.js";
import { describeVhostUser, joined, Served } from "../helpers/vhost-user.js";

const RARP = bit(VHOST_USER_PROTOCOL_F_RARP);
const MOVED = station(0x1234);
/** The payload: a u64 with the address in its low bytes. */
const payloadOf = (mac: string) => joined(macBytes(mac), Uint8Array.of(0, 0));

/** The whole packet, by hand. RFC 903. */
const ANNOUNCED = Buffer.from(
  "ffffffffffff 020000001234 8035 0001 0800 06 04 0003".replaceAll(" ", "") +
    "020000001234 00000000 020000001234 00000000".replaceAll(" ", "") +
    "00".repeat(18),
  "hex",
);

/** As far apart as the numbers of two seconds can be. */
const secondsSince = (began: number) => (performance.now() - began) / 1000 + 1;

/** A served network device at a switch, and a neighbour with what it has got. */
async function open(place: SwitchPortOptions = {}) {
  const lan = new Switch();
  const port = lan.port(place);
  const process = new Kernel().spawn({ memoryBytes: 8 << 20 });
  const neighbour = await (await process.open(net({ switch: lan.port(place) }))).driver();
  const got: Buffer[] = [];
  neighbour.onPacket = (frame) => got.push(Buffer.from(frame));
  const served = await Served.start({ device: net({ switch: port }) });
  const front: FrontEnd = await served.ready();
  const close = async () => {
    front.close();
    await served[Symbol.asyncDispose]();
    await process.exit();
    lan.close();
  };
  return { lan, port, served, front, got, [Symbol.asyncDispose]: close };
}

describeVhostUser("SEND_RARP", () => {
  test("all get the guest's word, and the switch knows where it is", async () => {
    await using lan = await open();
    expect(lan.front.protocolFeatures & RARP).toBe(RARP);
    const began = performance.now();
    await lan.front.must("SEND_RARP", payloadOf(MOVED));
    await expect.poll(() => lan.got).toEqual([ANNOUNCED]);
    const known = { mac: MOVED, vlan: 0, port: lan.port.index };
    expect(lan.lan.addresses()).toEqual([expect.objectContaining(known)]);
    expect(lan.lan.addresses()[0]?.ageSeconds).toBeLessThanOrEqual(secondsSince(began));
    expect(lan.port.counts()).toMatchObject({ received: 1, flooded: 1, forwarded: 1 });
  });

  test("while its rings run, and after a long sleep", async () => {
    await using lan = await open({ vlan: 5 });
    await lan.front.startQueue(0, 8);
    await lan.front.startQueue(1, 8);
    await new Promise((resolve) => setTimeout(resolve, 2600));
    const began = performance.now();
    await lan.front.must("SEND_RARP", payloadOf(MOVED));
    await expect.poll(() => lan.got).toEqual([ANNOUNCED]);
    expect(lan.lan.addresses()).toMatchObject([{ mac: MOVED, vlan: 5 }]);
    expect(lan.lan.addresses()[0]?.ageSeconds).toBeLessThanOrEqual(secondsSince(began));
  });

  test("what is no such message is refused, and nobody is told", async () => {
    await using lan = await open();
    const { front, served } = lan;
    for (const bytes of [0, 1, 6, 7, 9, 12, 16]) {
      expect(await front.tell("SEND_RARP", new Uint8Array(bytes).fill(2)), `${bytes}`).toBe(false);
    }
    expect(await front.tell("SEND_RARP", payloadOf(MOVED), [front.memfd])).toBe(false);
    for (const mac of ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"]) {
      expect(await front.tell("SEND_RARP", payloadOf(mac)), mac).toBe(false);
    }
    await front.must("SET_PROTOCOL_FEATURES", u64s(front.protocolFeatures & ~RARP));
    expect(await front.tell("SEND_RARP", payloadOf(MOVED))).toBe(false);
    const codes = served.all("refused").map(({ request, error }) => [request, error.code]);
    expect(codes.slice(0, -1)).toEqual(Array(11).fill(["SEND_RARP", "EINVAL"]));
    expect(codes.at(-1)).toEqual(["SEND_RARP", "EOPNOTSUPP"]);
    await front.must("SET_PROTOCOL_FEATURES", u64s(front.protocolFeatures));
    await front.must("SEND_RARP", payloadOf(MOVED));
    await expect.poll(() => lan.got).toEqual([ANNOUNCED]);
  });

  test("a device of another kind has none", async () => {
    await using served = await Served.start({ device: rng() });
    using front = await served.ready();
    expect(front.protocolFeatures & RARP).toBe(0n);
    expect(await front.tell("SEND_RARP", payloadOf(MOVED))).toBe(false);
    expect(served.all("refused")).toMatchObject([{ error: { code: "EOPNOTSUPP" } }]);
  });
});

test("a device without a switch: its user gets it", async () => {
  const got: Buffer[] = [];
  const nic = net({ onPacket: (frame) => got.push(Buffer.from(frame)) });
  await using process = new Kernel().spawn({ memoryBytes: 8 << 20 });
  const device = await process.open(nic);
  await device.dev.announce(macBytes(MOVED));
  await expect.poll(() => got).toEqual([ANNOUNCED]);
});
