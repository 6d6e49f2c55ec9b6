import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type RequestName, u32s, u64s } from "#dist/bench/front-end.js";
import {
  VHOST_USER_REQUESTS as REQUESTS,
  VHOST_USER_VERSION as VERSION,
} from "#dist/spec/vhost-user.js";
import {
  describeVhostUser,
  eventually,
  joined,
  QUEUES,
  sendUntilGone,
} from "../helpers/vhost-user.js";
import { NEED_REPLY, Tried } from "../helpers/vhost-user-bad.js";

const none = new Uint8Array(0);
const U32_MAX = 0xffff_ffff;

describeVhostUser("vhost-user: bad messages", () => {
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

  /** Sends bytes on a new connection; it must end, be told once, and why. */
  const ends = async (
    code: string | undefined,
    bytes: Uint8Array,
    fds: readonly number[] = [],
    hangUp = false,
  ) => {
    await tried.served.idle();
    using front = tried.served.connect();
    await front.ask("GET_FEATURES");
    const { events } = tried.served;
    const before = events.length;
    front.socket.send(bytes, fds);
    if (hangUp) front.close();
    else expect(await front.receive()).toBeUndefined();
    await eventually(() => events.length > before, "an event");
    expect(events.slice(before)).toHaveLength(1);
    expect(events.at(-1)).toMatchObject({
      event: "disconnected",
      ...(code && { error: { code } }),
    });
    if (!code) expect(events.at(-1)).not.toHaveProperty("error");
  };

  describe("what is no message ends the connection, told once", () => {
    const header = (request: number, flags: number, size: number) => u32s(request, flags, size);
    test("wrong versions, replies, sizes; text", async () => {
      for (const bytes of [
        header(1, 0, 0),
        header(1, 2, 0),
        header(1, 3, 0),
        header(1, 5, 0), // a reply
        header(5, 1, 4097),
        header(5, 1, 2 ** 31),
        header(5, 1, U32_MAX),
        new Uint8Array(64),
        new Uint8Array(64).fill(0xff),
        new TextEncoder().encode("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
      ]) {
        await ends("EPROTO", bytes);
      }
    });

    test("too many descriptors", async () => {
      const { all } = tried.kinds;
      for (const count of [9, 20, 250]) {
        const fds = Array.from({ length: count }, (_, i) => all[i % all.length] as number);
        await ends("EPROTO", header(REQUESTS.SET_OWNER, 1, 0), fds);
      }
    });

    test("descriptors that come in parts, more than eight together", async () => {
      const { all } = tried.kinds;
      await tried.served.idle();
      using front = tried.served.connect();
      const bytes = header(REQUESTS.SET_OWNER, 1, 0);
      sendUntilGone(() => {
        for (const byte of bytes) front.socket.send(Uint8Array.of(byte), all.slice(0, 3));
      });
      expect(await front.receive()).toBeUndefined();
      expect(await tried.served.next("disconnected")).toHaveProperty("error.code", "EPROTO");
    });
  });

  test("half a message, then nobody", async () => {
    const table = u32s(REQUESTS.SET_MEM_TABLE, 1, 40);
    for (const bytes of [
      Uint8Array.of(1),
      u32s(1, 1, 0).slice(0, 11),
      table,
      joined(table, new Uint8Array(20)),
    ]) {
      await ends("ECONNRESET", bytes, [], true);
      await ends("ECONNRESET", bytes, tried.kinds.all.slice(0, 8), true);
    }
    await ends(undefined, none, [], true); // between messages: that is no error
  });

  test("one byte at a time, the descriptor with any of them: a message like others", async () => {
    using front = await connect();
    const slowly = async (request: RequestName, payload: Uint8Array, fd?: number, at = 0) => {
      const bytes = joined(u32s(REQUESTS[request], NEED_REPLY, payload.length), payload);
      for (const [i, byte] of bytes.entries()) {
        front.socket.send(Uint8Array.of(byte), fd !== undefined && i === at ? [fd] : []);
        if (i % 5 === 0) await new Promise(setImmediate);
      }
      expect((await front.receive())?.payload.getBigUint64(0, true), request).toBe(0n);
    };
    await slowly("SET_OWNER", none);
    const region = joined(u32s(1, 0), front.region());
    for (const at of [0, 5, 11, 12, 51]) await slowly("SET_MEM_TABLE", region, front.memfd, at);
    const queue = front.makeQueue(0, 8);
    await slowly("SET_VRING_NUM", u32s(0, 8));
    await slowly("SET_VRING_ADDR", front.vringAddress(queue));
    for (const at of [0, 7, 12, 19]) await slowly("SET_VRING_KICK", u64s(0), queue.kickFd, at);
  });

  test("many in one piece: each is answered, in order", async () => {
    using front = await connect();
    const one = u32s(REQUESTS.GET_QUEUE_NUM, VERSION, 0);
    front.socket.send(joined(...Array.from({ length: 100 }, () => one)));
    for (let i = 0; i < 100; i++) {
      expect((await front.receive())?.payload.getBigUint64(0, true)).toBe(BigInt(QUEUES));
    }
  });

  test("who does not read the answers is sent away", async () => {
    using front = await connect();
    const payload = joined(u32s(0, 256, 0), new Uint8Array(256));
    const many = joined(
      ...Array.from({ length: 100 }, () =>
        joined(u32s(REQUESTS.GET_CONFIG, VERSION, payload.length), payload),
      ),
    );
    const flood = async () => {
      for (let i = 0; i < 1000; i++) {
        try {
          front.socket.send(many);
        } catch (error) {
          if ((error as { code?: string }).code === "EAGAIN") await new Promise(setImmediate);
          else return;
        }
        if (tried.served.all("disconnected").length > gone) return;
      }
    };
    const gone = tried.served.all("disconnected").length;
    await flood();
    expect(await tried.served.next("disconnected")).toHaveProperty("error.code", "EAGAIN");
  });
});
