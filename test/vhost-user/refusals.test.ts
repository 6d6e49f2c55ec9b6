import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type FrontEnd, type RequestName, u32s, u64s } from "#dist/bench/front-end.js";
import { VHOST_USER_REQUESTS as REQUESTS } from "#dist/spec/vhost-user.js";
import { describeVhostUser, joined, QUEUES } from "../helpers/vhost-user.js";
import { NEED_REPLY, Tried } from "../helpers/vhost-user-bad.js";

const none = new Uint8Array(0);
const U32_MAX = 0xffff_ffff;

describeVhostUser("vhost-user: refusals", () => {
  let tried: Tried;
  beforeAll(async () => {
    tried = await Tried.start();
  });
  afterEach(() => tried?.isWell());
  afterAll(() => tried?.close());

  const connect = async () => {
    await tried.served.idle();
    const front = tried.served.connect();
    await front.negotiate(~0n);
    return front;
  };

  describe("refused with an error as the reply, told once; the connection goes on", () => {
    const KNOWN = new Set<number>(Object.values(REQUESTS));
    const ANSWERED = new Set<number>(
      Object.entries(REQUESTS).flatMap(([name, number]) =>
        /^(GET_|SET_LOG_BASE)/.test(name) ? [number] : [],
      ),
    );

    test("requests that are not known here", async () => {
      using front = await connect();
      const numbers = Array.from({ length: 64 }, (_, i) => i).filter((i) => !KNOWN.has(i));
      for (const number of [...numbers, 255, 256 + 3, 65536 + 3, 2 ** 31, U32_MAX]) {
        expect(await tried.refused(front, number, u64s(0))).toBe("EOPNOTSUPP");
        expect(await tried.refused(front, number, none, [front.memfd])).toBe("EOPNOTSUPP");
      }
    });

    test("payloads of a size that is none of the request's", { timeout: 60_000 }, async () => {
      let front = await connect();
      let count = 0;
      for (const [name, number] of Object.entries(REQUESTS)) {
        if (ANSWERED.has(number)) continue;
        for (const bytes of [0, 1, 7, 9, 16, 39, 41, 300, 4096]) {
          const isRight =
            (bytes === 0 && /^(SET_OWNER|RESET_)/.test(name)) || (bytes === 16 && name === "");
          if (isRight) continue;
          const payload = new Uint8Array(bytes);
          const code = name === "SEND_RARP" ? "EOPNOTSUPP" : "EINVAL"; // a disk has none
          expect(await tried.refused(front, name as RequestName, payload)).toBe(code);
          if (++count % 95 !== 0) continue;
          front.close();
          front = await connect();
        }
      }
      front.close();
    });

    test("rings that there are not, by every message that names one", async () => {
      using front = await connect();
      const kick = front.eventfd();
      for (const index of [QUEUES, 255, 256, 65536, 2 ** 31, U32_MAX]) {
        for (const name of ["SET_VRING_NUM", "SET_VRING_BASE", "SET_VRING_ENABLE"] as const) {
          expect(await tried.refused(front, name, u32s(index, 1))).toMatch(/^(EINVAL|ENOBUFS)$/);
        }
        const address = joined(u32s(index, 0), u64s(0, 0, 0, 0));
        expect(await tried.refused(front, "SET_VRING_ADDR", address)).toBe("EINVAL");
      }
      for (const value of [BigInt(QUEUES), 255n, 0x200n, 0x1000n, 1n << 63n, (1n << 64n) - 1n]) {
        for (const name of ["SET_VRING_KICK", "SET_VRING_CALL", "SET_VRING_ERR"] as const) {
          expect(await tried.refused(front, name, u64s(value), [kick])).toBe("EINVAL");
        }
      }
    });

    test("values that a ring can't have", async () => {
      using front = await connect();
      for (const num of [0, 3, 1000, 2048, 32768, 65536, 65537, 2 ** 31, U32_MAX]) {
        expect(await tried.refused(front, "SET_VRING_NUM", u32s(0, num))).toBe("EINVAL");
      }
      for (const base of [65536, 2 ** 31, U32_MAX]) {
        expect(await tried.refused(front, "SET_VRING_BASE", u32s(0, base))).toBe("EINVAL");
      }
      for (const value of [2, 256, U32_MAX]) {
        expect(await tried.refused(front, "SET_VRING_ENABLE", u32s(0, value))).toBe("EINVAL");
      }
      for (const flags of [2, 3, U32_MAX]) {
        const address = joined(u32s(0, flags), u64s(0, 0, 0, 0));
        expect(await tried.refused(front, "SET_VRING_ADDR", address)).toBe("EINVAL");
      }
    });

    test("descriptors that are too few, too many, or no eventfds", async () => {
      const { kinds } = tried;
      using front = await connect();
      const eventfd = kinds.of("eventfd");
      for (const name of ["SET_VRING_KICK", "SET_VRING_CALL", "SET_VRING_ERR"] as const) {
        const refused = (value: bigint | number, fds: number[]) =>
          tried.refused(front, name, u64s(value), fds);
        expect(await refused(0, [])).toBe("EINVAL");
        expect(await refused(0x100, [eventfd])).toBe("EINVAL");
        expect(await refused(0, [eventfd, eventfd])).toBe("EINVAL");
        expect(await refused(0, kinds.all.slice(0, 8))).toBe("EINVAL");
        for (const kind of kinds.not("eventfd")) {
          expect(await refused(1, [kinds.of(kind)]), kind).toBe("EINVAL");
        }
      }
      for (const count of [1, 8]) {
        const fds = kinds.all.slice(0, count);
        expect(await tried.refused(front, "SET_OWNER", none, fds)).toBe("EINVAL");
        expect(await tried.refused(front, "SET_VRING_NUM", u32s(0, 8), fds)).toBe("EINVAL");
        expect(await tried.refused(front, "SET_FEATURES", u64s(0), fds)).toBe("EINVAL");
        expect(await tried.refused(front, "RESET_DEVICE", none, fds)).toBe("EINVAL");
      }
    });

    test("after a hundred, the connection ends", async () => {
      using front: FrontEnd = await connect();
      for (let i = 0; i < 100; i++) await tried.refused(front, "SET_VRING_NUM", u32s(0, 3));
      front.send("SET_VRING_NUM", u32s(0, 3), [], NEED_REPLY);
      expect(await front.receive()).toBeUndefined();
      const [refused, gone] = tried.served.events.slice(-2);
      expect(refused).toMatchObject({ event: "refused", request: "SET_VRING_NUM" });
      expect(gone).toMatchObject({ event: "disconnected", error: { code: "EPROTO" } });
    });
  });

  test("what has only an answer of its own ends the connection when it is bad", async () => {
    for (const [name, payload] of [
      ["GET_VRING_BASE", u32s(QUEUES, 0)],
      ["GET_VRING_BASE", u32s(U32_MAX, 0)],
      ["GET_FEATURES", u64s(0)],
      ["GET_PROTOCOL_FEATURES", Uint8Array.of(1)],
      ["GET_QUEUE_NUM", u64s(0)],
      ["GET_STATUS", u64s(0)],
      ["GET_MAX_MEM_SLOTS", u64s(0)],
      ["SET_LOG_BASE", u64s(0)],
      ["SET_LOG_BASE", u64s(4096, 0)],
      ["GET_INFLIGHT_FD", u64s(0)],
      ["GET_INFLIGHT_FD", u64s(0, 0, 0)],
    ] as [RequestName, Uint8Array][]) {
      using front = await connect();
      const before = tried.served.events.length;
      front.send(name, payload, [], NEED_REPLY);
      expect(await front.receive()).toBeUndefined();
      await tried.served.idle();
      expect(tried.served.events.slice(before)).toMatchObject([
        { event: "refused", request: name, error: { code: "EINVAL" } },
        { event: "disconnected", error: { code: "EINVAL" } },
      ]);
    }
  });

  test("a refused message without NEED_REPLY ends the connection", async () => {
    using front = await connect();
    const before = tried.served.events.length;
    front.send("SET_VRING_KICK", u64s(0), [tried.kinds.of("socket")]);
    front.send("SET_OWNER", none, [], NEED_REPLY);
    expect(await front.receive()).toBeUndefined();
    expect(tried.served.events.slice(before)).toMatchObject([
      { event: "refused", request: "SET_VRING_KICK", error: { code: "EINVAL" } },
      { event: "disconnected", error: { code: "EINVAL" } },
    ]);
  });
});
