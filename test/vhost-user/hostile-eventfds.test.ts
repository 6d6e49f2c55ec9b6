import { afterEach, beforeEach, expect, test } from "vitest";
import { FrontEnd, type FrontQueue, u32s, u64s } from "#dist/bench/front-end.js";
import { drainEventfd, setNonblocking, signalEventfd } from "#dist/linux/eventfd.js";
import { closeFd, libc } from "#dist/linux/libc.js";
import { VIRTIO_BLK_T_FLUSH } from "#dist/spec/virtio-blk.js";
import { pattern } from "../helpers/blk-raw.js";
import { describeVhostUser } from "../helpers/vhost-user.js";
import { Serving } from "../helpers/vhost-user-child.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";
import { RawQueue } from "../helpers/vhost-user-ring.js";

const F_SETFL = 4;
const O_RDWR = 2;
const EFD_SEMAPHORE = 1;
const FULL = 0xffff_ffff_ffff_fffen;

/** Of the description, which both sides share: reading or writing it may block from now on. */
const makeBlock = (fd: number) => libc().fcntl(fd, F_SETFL, O_RDWR);

/** So full that the next write blocks. Does not block itself. */
function fill(fd: number): void {
  setNonblocking(fd);
  drainEventfd(fd);
  libc().write(fd, BigUint64Array.of(FULL), 8);
  makeBlock(fd);
}

describeVhostUser("vhost-user: hostile eventfds", () => {
  // the server is a program of its own: what blocks it must not block the test
  let serving: Serving;
  let front: FrontEnd;
  let queue: FrontQueue;
  beforeEach(async () => {
    serving = await Serving.start(2);
    front = new FrontEnd(serving.paths[0] as string);
    await front.negotiate(~0n);
    await front.setMemory();
    queue = await front.startQueue(0, 64);
  });
  afterEach(async () => {
    front?.close();
    await serving?.[Symbol.asyncDispose]();
  });

  const offer = () => new FrontDisk(front, queue).offer([{ type: VIRTIO_BLK_T_FLUSH }]);

  /** The other server of the program serves, and its main thread answers. */
  const expectOthersServed = async () => {
    serving.program.say("ping");
    await serving.program.next("pong");
    const other = new FrontEnd(serving.paths[1] as string);
    await other.negotiate(~0n);
    await other.setMemory();
    const drive = new FrontDisk(other, await other.startQueue(0, 8));
    await drive.write(0, pattern(512));
    expect(await drive.read(0, 512)).toEqual(pattern(512));
    other.close();
  };

  /** The front-end goes; then its server serves the next, and the program ends when told. */
  const expectEnd = async () => {
    front.close();
    await serving.program.next("disconnected", 15_000);
    const next = new FrontEnd(serving.paths[0] as string);
    await next.negotiate(~0n);
    next.close();
    serving.program.say("close");
    await serving.program.next("closed", 15_000);
    expect(await serving.program.end()).toBe(0);
  };

  test("a full call eventfd that blocks: others are served, the session ends", async () => {
    fill(queue.callFd);
    offer();
    await expectOthersServed();
    await front.must("SET_VRING_ENABLE", u32s(1, 1));
    fill(queue.callFd);
    offer();
    await expectEnd();
  }, 60_000);

  test("a full error eventfd that blocks", async () => {
    const raw = new RawQueue(front, 1);
    await front.attach(raw.queue);
    fill(raw.queue.errFd);
    raw.writeDesc(0, { addr: 0n, len: 1, flags: 0 });
    raw.offer(0);
    raw.kick();
    await raw.next();
    await new Promise((resolve) => setTimeout(resolve, 600)); // errors are looked for at times
    await expectOthersServed();
    await front.must("SET_VRING_ENABLE", u32s(1, 1));
    await expectEnd();
  }, 60_000);

  test("a kick eventfd that blocks, and is emptied before the worker reads it", async () => {
    makeBlock(queue.kickFd);
    const count = new BigUint64Array(1);
    for (let i = 0; i < 200_000; i++) {
      signalEventfd(queue.kickFd);
      if (i % 3) libc().preadv2(queue.kickFd, iovec(count), 1, -1, 8);
    }
    await expectOthersServed();
    await front.must("SET_VRING_ENABLE", u32s(1, 1));
    await expectEnd();
  }, 60_000);

  test("a kick eventfd that counts down, from very high", async () => {
    const fd = libc().eventfd(0, EFD_SEMAPHORE);
    fill(fd);
    await front.must("SET_VRING_KICK", u64s(0), [fd]);
    makeBlock(fd);
    await expectOthersServed();
    await front.must("SET_VRING_ENABLE", u32s(1, 1));
    await new FrontDisk(front, queue).flush();
    closeFd(fd);
    await expectEnd();
  }, 60_000);

  test("the front-end hangs up while the worker hangs in a call", async () => {
    fill(queue.callFd);
    offer();
    await expectEnd();
  }, 60_000);

  test("the server is closed while the worker hangs in a call", async () => {
    fill(queue.callFd);
    offer();
    front.send("SET_VRING_ENABLE", u32s(1, 1));
    serving.program.say("close");
    await serving.program.next("closed", 15_000);
    expect(await serving.program.end()).toBe(0);
  }, 60_000);

  test("the program exits while the worker hangs in a call", async () => {
    fill(queue.callFd);
    offer();
    await expectOthersServed();
    serving.program.say("exit");
    expect(await serving.program.end(15_000)).toBe(7);
  }, 60_000);

  test("one that is filled and made to block again and again", async () => {
    fill(queue.callFd);
    offer();
    const timer = setInterval(() => {
      fill(queue.callFd);
    }, 1);
    try {
      for (let i = 0; i < 5; i++) {
        await front.must("SET_VRING_ENABLE", u32s(1, i & 1));
        offer();
      }
      await expectOthersServed();
    } finally {
      clearInterval(timer);
    }
    await expectEnd();
  }, 60_000);
});

/** An iovec of eight bytes. */
function iovec(target: BigUint64Array): BigUint64Array {
  return new BigUint64Array([BigInt(libc().addressOf(target)), 8n]);
}
