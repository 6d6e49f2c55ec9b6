// The packed ring's steps: assembly/packed-driver.ts and packed-device.ts, call by call. Chains of
// one descriptor. What is plain there is plain here: `id`, and `flags` of all descriptors
// but the first of a publish.

import { passed } from "#dist/ring/ts-position.js";
import { PLAIN } from "./program.js";
import {
  type Driver,
  HINT,
  ordersOf,
  type RingShape,
  type RingSteps,
  type Worker,
} from "./rings.js";

/** The wrap counter of a position. */
const WRAP = 0x8000;
/** Flags of a descriptor: AVAIL and USED alone. */
const AVAIL = 1;
const USED = 2;
/** An event structure, as one number: ENABLE, DISABLE, or DESC and the descriptors before it. */
const ENABLE = 0;
const DISABLE = 1;
const DESC = 2;
/** The device's `id` of a used descriptor is the driver's, marked. */
const USED_MARK = 16;

/** The steps of a packed ring. */
export class PackedSteps implements RingSteps {
  readonly memory: Record<string, number>;
  readonly plain: readonly string[];
  readonly #shape: RingShape;
  readonly #a;
  readonly #u;

  /** For one model. */
  constructor(shape: RingShape) {
    this.#shape = shape;
    this.#a = ordersOf("A", shape.has);
    this.#u = ordersOf("U", shape.has);
    const slots = Array.from({ length: shape.num }, (_, slot) => slot);
    this.plain = slots.flatMap((slot) => [`desc[${slot}].flags`, `desc[${slot}].id`]);
    const descs = Object.fromEntries(this.plain.map((name) => [name, 0]));
    this.memory = { "driver event": DISABLE, "device event": ENABLE, ...descs };
  }

  /** For traces. */
  static show(place: string, value: number): string {
    if (place.endsWith("flags")) return ["none", "AVAIL", "USED", "AVAIL|USED"][value] ?? "?";
    if (!place.endsWith("event")) return String(value);
    return ["ENABLE", "DISABLE"][value] ?? `DESC ${value - DESC}`;
  }

  #slot(count: number): number {
    return count % this.#shape.num;
  }

  #wrap(count: number): boolean {
    return Math.floor(count / this.#shape.num) % 2 === 0;
  }

  #position(count: number): number {
    return this.#slot(count) | (this.#wrap(count) ? WRAP : 0);
  }

  #available(count: number): number {
    return this.#wrap(count) ? AVAIL : USED;
  }

  #used(count: number): number {
    return this.#wrap(count) ? AVAIL | USED : 0;
  }

  #flags(count: number): string {
    return `desc[${this.#slot(count)}].flags`;
  }

  #id(count: number): string {
    return `desc[${this.#slot(count)}].id`;
  }

  #desc(count: number): number {
    return DESC + (count % (2 * this.#shape.num));
  }

  /** isAskedFor of position.ts: after `count` descriptors up to `next` were published. */
  #isAskedFor(event: number, next: number, count: number): number {
    if (event < DESC) return Number(event === ENABLE);
    const at = this.#position(event - DESC);
    return Number(passed(at, this.#position(next), count, this.#shape.num));
  }

  addBuf(p: Driver): void {
    p.store(
      "addBufs: id",
      (r) => this.#id(r.next),
      PLAIN,
      (r) => r.next + 1,
    );
    const staged = p.fresh("staged");
    p.jump(staged, (r) => r.next === r.published);
    p.store(
      "addBufs: flags",
      (r) => this.#flags(r.next),
      PLAIN,
      (r) => this.#available(r.next),
    );
    p.label(staged);
    p.run((r) => {
      r.next++;
      r.adding--;
    });
  }

  publish(p: Driver): void {
    p.store(
      "publish, A1 A2",
      (r) => this.#flags(r.published),
      this.#a.publish,
      (r) => this.#available(r.published),
    );
    p.run((r) => {
      r.published = r.next;
    });
  }

  kickNeeded(p: Driver): void {
    p.load("kickNeeded, A2", "device event", this.#a.readWish, (r, event) => {
      r.isNeeded = this.#isAskedFor(event, r.next, r.next - r.kicked);
    });
    p.run((r) => {
      r.kicked = r.next;
    });
  }

  getBufs(p: Driver): void {
    const loop = p.fresh("got");
    const end = p.fresh("all got");
    p.label(loop);
    p.jump(end, (r) => r.next === r.got);
    p.load(
      "getBufs, U1",
      (r) => this.#flags(r.got),
      this.#u.idx,
      (r, flags) => {
        r.pending = Number(flags === this.#used(r.got));
      },
    );
    p.jump(end, (r) => r.pending === 0);
    p.load(
      "getBufs: id",
      (r) => this.#id(r.got),
      PLAIN,
      (r, id) => {
        r.value = id;
      },
    );
    p.check(
      "the driver got a descriptor that was not written yet",
      (r) => r.value === r.got + 1 + USED_MARK,
    );
    p.run((r) => {
      r.value = 0;
      r.pending = 0;
      r.got++;
    });
    p.jump(loop);
    p.label(end);
  }

  enableCall(p: Driver): void {
    const { has, eventIdx } = this.#shape;
    const tooFar = has("enableCall: one too far") ? 1 : 0;
    const ask = () => {
      if (has("enableCall: left out")) return;
      p.store("enableCall, U2", "driver event", this.#u.storeWish, (r) =>
        eventIdx ? this.#desc(r.got + tooFar) : ENABLE,
      );
    };
    const isLate = has("enableCall: the wish after the second look");
    if (!isLate) ask();
    if (!has("enableCall: no second look")) {
      const at = (r: { got: number }) => this.#flags(r.got);
      p.load("enableCall looks again, U2", at, this.#u.secondLook, (r, flags) => {
        r.isBusy = Number(flags === this.#used(r.got));
      });
    }
    if (isLate) ask();
  }

  disableCall(p: Driver): void {
    p.store("disableCall", "driver event", HINT, DISABLE);
  }

  start(p: Worker): void {
    p.store("start", "device event", HINT, ENABLE);
  }

  /** Moves `available` past what is, so far as the ring goes. */
  #walk(p: Worker, say: string, order: { acqRel: boolean; sc: boolean }): void {
    const loop = p.fresh("walk");
    const end = p.fresh("walked");
    p.label(loop);
    p.jump(end, (r) => r.available - r.used >= this.#shape.num);
    p.load(
      say,
      (r) => this.#flags(r.available),
      order,
      (r, flags) => {
        r.value = Number(flags === this.#available(r.available));
        r.available += r.value;
      },
    );
    p.jump(end, (r) => r.value === 0);
    p.run((r) => {
      r.value = 0;
    });
    p.jump(loop);
    p.label(end);
  }

  availLen(p: Worker): void {
    this.#walk(p, "availLen, A1", this.#a.idx);
    p.run((r) => {
      if (r.available !== r.last) r.isDue = 1;
    });
  }

  getDescs(p: Worker): void {
    const loop = p.fresh("pop");
    const end = p.fresh("popped");
    p.label(loop);
    p.jump(end, (r) => r.last - r.used === this.#shape.num);
    p.load(
      "getDescs, A1",
      (r) => this.#flags(r.last),
      this.#a.idx,
      (r, flags) => {
        r.value = Number(flags === this.#available(r.last));
        if (r.value === 0) r.available = r.last;
      },
    );
    p.jump(end, (r) => r.value === 0);
    p.load(
      "getDescs: id",
      (r) => this.#id(r.last),
      PLAIN,
      (r, id) => {
        r.value = id;
      },
    );
    p.check("the device popped what was not written yet", (r) => r.value === r.last + 1);
    p.run((r) => {
      r.value = 0;
      r.last++;
      r.available = Math.max(r.available, r.last);
    });
    p.choose(end); // as many as were asked for
    p.jump(loop);
    p.label(end);
  }

  addUsed(p: Worker): void {
    p.store(
      "addUsedN: id",
      (r) => this.#id(r.used),
      PLAIN,
      (r) => r.used + 1 + USED_MARK,
    );
    const staged = p.fresh("staged");
    p.jump(staged, (r) => r.used === r.published);
    p.store(
      "addUsedN: flags",
      (r) => this.#flags(r.used),
      PLAIN,
      (r) => this.#used(r.used),
    );
    p.label(staged);
    p.run((r) => {
      r.used++;
    });
  }

  devicePublish(p: Worker): void {
    p.store(
      "publish, U1 U2",
      (r) => this.#flags(r.published),
      this.#u.publish,
      (r) => this.#used(r.published),
    );
    p.run((r) => {
      r.published = r.used;
    });
  }

  callNeeded(p: Worker): void {
    p.load("callNeeded, U2", "driver event", this.#u.readWish, (r, event) => {
      r.isNeeded = this.#isAskedFor(event, r.used, r.used - r.signalled);
      if (event >= DESC && r.isDecided === 0) r.isNeeded = 1;
    });
    p.run((r) => {
      r.isDecided = 1;
      r.signalled = r.used;
    });
  }

  enableKick(p: Worker): void {
    const { has, eventIdx } = this.#shape;
    const tooFar = has("enableKick: one too far") ? 1 : 0;
    const ask = () => {
      if (has("enableKick: left out")) return;
      if (eventIdx) this.#walk(p, "enableKick: where the driver is", this.#a.idx);
      p.store("enableKick, A2", "device event", this.#a.storeWish, (r) =>
        eventIdx ? this.#desc(r.available + tooFar) : ENABLE,
      );
    };
    const isLate = has("enableKick: the wish after the second look");
    if (!isLate) ask();
    if (!has("enableKick: no second look")) {
      this.#walk(p, "enableKick looks again, A2", this.#a.secondLook);
      p.run((r) => {
        r.isBusy = Number(r.available !== r.last);
      });
    }
    if (isLate) ask();
  }

  disableKick(p: Worker): void {
    p.store("disableKick", "device event", HINT, DISABLE);
  }
}
