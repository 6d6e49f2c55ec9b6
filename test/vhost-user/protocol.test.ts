import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type FrontEnd, type RequestName, u32s, u64s } from "#dist/bench/front-end.js";
import * as wire from "#dist/spec/vhost-user.js";
import * as blkSpec from "#dist/spec/virtio-blk.js";
import * as virtio from "#dist/spec/virtio-config.js";
import { bit } from "../helpers/raw-guest.js";
import { describeVhostUser, joined, Served } from "../helpers/vhost-user.js";

const bits = (...numbers: number[]) => numbers.reduce((mask, number) => mask | bit(number), 0n);
const u64Of = (view: DataView) => view.getBigUint64(0, true);
const bytesOf = (view: DataView) => [...new Uint8Array(view.buffer)];
const VERSION = wire.VHOST_USER_VERSION;
const NEED_REPLY = VERSION | wire.VHOST_USER_NEED_REPLY;
const ACK = bit(wire.VHOST_USER_PROTOCOL_F_REPLY_ACK);
const PROTOCOL = bits(0, 1, 3, 9, 12, 13, 15, 16);
const none = new Uint8Array(0);

/** A payload of GET_CONFIG or SET_CONFIG. */
const config = (offset: number, size: number, contents = new Uint8Array(size)) =>
  joined(u32s(offset, size, 0), contents);

/** No reply is under way: the next one is that of a request which always has one. */
async function expectSilence(front: FrontEnd): Promise<void> {
  front.send("GET_FEATURES");
  expect((await front.receive())?.request).toBe(wire.VHOST_USER_REQUESTS.GET_FEATURES);
}

/** A request without a reply of its own, right in all. */
interface Plain {
  name: RequestName;
  payload(front: FrontEnd): Uint8Array;
  fds?(front: FrontEnd): number[];
}

const region = (front: FrontEnd) => joined(u64s(0), front.region());
const ringState = () => u32s(1, 0);
const PLAIN: readonly Plain[] = [
  { name: "SET_OWNER", payload: () => none },
  { name: "SET_FEATURES", payload: () => u64s(bit(virtio.VIRTIO_F_VERSION_1)) },
  { name: "SET_PROTOCOL_FEATURES", payload: () => u64s(PROTOCOL) },
  { name: "RESET_OWNER", payload: () => none },
  { name: "SET_MEM_TABLE", payload: () => u32s(0, 0) },
  { name: "ADD_MEM_REG", payload: region, fds: (front) => [front.memfd] },
  { name: "REM_MEM_REG", payload: region },
  { name: "SET_VRING_NUM", payload: () => u32s(1, 8) },
  { name: "SET_VRING_BASE", payload: ringState },
  { name: "SET_VRING_ADDR", payload: () => joined(u32s(1, 0), u64s(0, 0, 0, 0)) },
  { name: "SET_VRING_KICK", payload: () => u64s(1), fds: (front) => [front.eventfd()] },
  { name: "SET_VRING_CALL", payload: () => u64s(1), fds: (front) => [front.eventfd()] },
  { name: "SET_VRING_ERR", payload: () => u64s(1), fds: (front) => [front.eventfd()] },
  { name: "SET_VRING_ENABLE", payload: ringState },
  { name: "SET_CONFIG", payload: () => config(32, 1) },
  { name: "SET_STATUS", payload: () => u64s(3) },
  { name: "RESET_DEVICE", payload: () => none },
];

describeVhostUser("vhost-user protocol", () => {
  let served: Served;
  beforeAll(async () => {
    served = await Served.start();
  });
  beforeEach(() => served.idle());
  afterAll(() => served?.[Symbol.asyncDispose]());

  describe("features", () => {
    test("offered are those of the disk, the rings and the protocol, and no others", async () => {
      using front = served.connect();
      const blkFeatures = Object.entries(blkSpec).filter(([name]) => /_BLK_F_(?!RO)/.test(name));
      expect(u64Of(await front.ask("GET_FEATURES"))).toBe(
        bits(
          ...blkFeatures.map(([, number]) => number),
          virtio.VIRTIO_F_INDIRECT_DESC,
          virtio.VIRTIO_F_EVENT_IDX,
          virtio.VIRTIO_F_VERSION_1,
          virtio.VIRTIO_F_RING_PACKED,
          virtio.VIRTIO_F_IN_ORDER,
          virtio.VIRTIO_F_RING_RESET, // not NOTIFICATION_DATA: an eventfd carries none
          wire.VHOST_USER_F_PROTOCOL_FEATURES,
          wire.VHOST_F_LOG_ALL,
        ),
      );
      expect(u64Of(await front.ask("GET_PROTOCOL_FEATURES"))).toBe(PROTOCOL);
    });

    test("each bit is taken if it was offered, and refused if not", async () => {
      using front = served.connect();
      await front.negotiate(0n);
      const offered = u64Of(await front.ask("GET_FEATURES"));
      for (let number = 0; number < 64; number++) {
        const isOffered = (offered & bit(number)) !== 0n;
        expect(await front.tell("SET_FEATURES", u64s(bit(number))), `bit ${number}`).toBe(
          isOffered,
        );
      }
    });

    test("each bit of the protocol's too", async () => {
      using front = served.connect();
      await front.negotiate(0n);
      for (let number = 0; number < 64; number++) {
        const isOffered = (PROTOCOL & bit(number)) !== 0n;
        const wanted = u64s(bit(number) | ACK);
        expect(await front.tell("SET_PROTOCOL_FEATURES", wanted), `bit ${number}`).toBe(isOffered);
      }
    });
  });

  describe("replies", () => {
    test("name the request and carry version and reply flag alone", async () => {
      using front = served.connect();
      front.send("GET_FEATURES");
      front.send("SET_PROTOCOL_FEATURES", u64s(PROTOCOL));
      front.send("SET_OWNER", none, [], NEED_REPLY);
      const [own, ack] = [await front.receive(), await front.receive()];
      expect(own).toMatchObject({ request: 1, flags: 5, payload: { byteLength: 8 } });
      expect(ack).toMatchObject({ request: 3, flags: 5, payload: { byteLength: 8 } });
    });

    test("every request without one of its own is acknowledged, if asked", async () => {
      using front = served.connect();
      front.send("SET_PROTOCOL_FEATURES", u64s(PROTOCOL));
      for (const { name, payload, fds } of PLAIN) {
        front.send(name, payload(front), fds?.(front) ?? [], NEED_REPLY);
        const reply = await front.receive();
        expect(reply, name).toMatchObject({ request: wire.VHOST_USER_REQUESTS[name], flags: 5 });
        expect(bytesOf(reply?.payload as DataView), name).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
      }
      for (const { name, payload } of PLAIN) {
        const wrong = joined(payload(front), new Uint8Array(1));
        front.send(name, wrong, [], NEED_REPLY);
        const reply = await front.receive();
        expect(reply, name).toMatchObject({ request: wire.VHOST_USER_REQUESTS[name], flags: 5 });
        expect(u64Of(reply?.payload as DataView), name).not.toBe(0n);
        expect(await served.next("refused")).toMatchObject({ request: name });
      }
      await expectSilence(front);
    });

    test("there is none if it was not asked for", async () => {
      using front = served.connect();
      front.send("SET_PROTOCOL_FEATURES", u64s(PROTOCOL));
      for (const { name, payload, fds } of PLAIN) {
        front.send(name, payload(front), fds?.(front));
        await expectSilence(front);
      }
    });

    test("there is none if REPLY_ACK was not accepted", async () => {
      using front = served.connect();
      front.send("SET_PROTOCOL_FEATURES", u64s(PROTOCOL & ~ACK));
      for (const { name, payload, fds } of PLAIN) {
        if (name === "SET_PROTOCOL_FEATURES") continue; // that would accept it
        front.send(name, payload(front), fds?.(front) ?? [], NEED_REPLY);
        await expectSilence(front);
      }
      front.send("SET_VRING_NUM", u32s(0, 3), [], NEED_REPLY);
      expect(await front.receive()).toBeUndefined();
      expect(await served.next("refused")).toMatchObject({ request: "SET_VRING_NUM" });
      expect(await served.next("disconnected")).toHaveProperty("error.code", "EINVAL");
    });

    // libvhost-user and rust-vmm answer here: the feature counts from its own message on
    test("the message that accepts REPLY_ACK may ask for one itself", async () => {
      using front = served.connect();
      front.send("SET_PROTOCOL_FEATURES", u64s(PROTOCOL), [], NEED_REPLY);
      front.send("GET_FEATURES");
      expect((await front.receive())?.request).toBe(wire.VHOST_USER_REQUESTS.SET_PROTOCOL_FEATURES);
    });
  });

  describe("requests of a protocol feature that was not accepted", () => {
    const NEEDS: [RequestName, number][] = [
      ["GET_QUEUE_NUM", 0],
      ["GET_CONFIG", 9],
      ["SET_CONFIG", 9],
      ["RESET_DEVICE", 13],
      ["GET_MAX_MEM_SLOTS", 15],
      ["ADD_MEM_REG", 15],
      ["REM_MEM_REG", 15],
      ["GET_STATUS", 16],
      ["SET_STATUS", 16],
    ];
    const ENDING = ["GET_QUEUE_NUM", "GET_MAX_MEM_SLOTS", "GET_STATUS"];
    const right = (name: RequestName, front: FrontEnd) => {
      const plain = PLAIN.find((one) => one.name === name);
      if (plain) return { payload: plain.payload(front), fds: plain.fds?.(front) ?? [] };
      return { payload: name === "GET_CONFIG" ? config(0, 4) : none, fds: [] };
    };

    test("are refused", async () => {
      using front = served.connect();
      for (const [name, number] of NEEDS.filter(([name]) => !ENDING.includes(name))) {
        front.send("SET_PROTOCOL_FEATURES", u64s(PROTOCOL & ~bit(number)));
        const { payload, fds } = right(name, front);
        front.send(name, payload, fds, NEED_REPLY);
        const reply = await front.receive();
        if (name === "GET_CONFIG") expect(reply?.payload.byteLength).toBe(0);
        else expect(u64Of(reply?.payload as DataView), name).not.toBe(0n);
        const refusal = await served.next("refused");
        expect(refusal).toMatchObject({ request: name, error: { code: "EOPNOTSUPP" } });
      }
      await expectSilence(front);
    });

    test.each(ENDING)("%s ends the connection: it has no reply that would say so", async (name) => {
      using front = served.connect();
      const [, number] = NEEDS.find(([other]) => other === name) as [RequestName, number];
      front.send("SET_PROTOCOL_FEATURES", u64s(PROTOCOL & ~bit(number)));
      front.send(name as RequestName);
      expect(await front.receive()).toBeUndefined();
      const refusal = await served.next("refused");
      expect(refusal).toMatchObject({ request: name, error: { code: "EOPNOTSUPP" } });
      expect(await served.next("disconnected")).toHaveProperty("error.code", "EOPNOTSUPP");
    });
  });
});
