// The split ring's steps: assembly/split-driver.ts and split-device.ts, call by call. Free-running
// indices wrap at twice the ring's entries, which is as tight as 65536 is for 32768 entries.

import { PLAIN } from "./program.js";
import {
  type Driver,
  HINT,
  ordersOf,
  type RingShape,
  type RingSteps,
  type Worker,
} from "./rings.js";

const NO_NOTIFY = 1;

/** The steps of a split ring. */
export class SplitSteps implements RingSteps {
  readonly memory: Record<string, number>;
  readonly plain: readonly string[];
  readonly #shape: RingShape;
  readonly #modulus: number;
  readonly #a;
  readonly #u;

  /** For one model. */
  constructor(shape: RingShape) {
    this.#shape = shape;
    this.#modulus = 2 * shape.num;
    this.#a = ordersOf("A", shape.has);
    this.#u = ordersOf("U", shape.has);
    const slots = Array.from({ length: shape.num }, (_, slot) => slot);
    this.plain = slots.flatMap((slot) => [`avail.ring[${slot}]`, `used.ring[${slot}]`]);
    const words = shape.eventIdx
      ? { avail_event: 0, used_event: 0 }
      : { "used.flags": 0, "avail.flags": NO_NOTIFY };
    const elements = Object.fromEntries(this.plain.map((name) => [name, 0]));
    this.memory = { "avail.idx": 0, "used.idx": 0, ...words, ...elements };
  }

  /** `a - b`, as free-running indices. */
  #minus(a: number, b: number): number {
    return (((a - b) % this.#modulus) + this.#modulus) % this.#modulus;
  }

  /** needEvent of event.ts, in a smaller modulus. */
  #needEvent(event: number, next: number, old: number): boolean {
    return this.#minus(next, event + 1) < this.#minus(next, old);
  }

  #slot(count: number): number {
    return count % this.#shape.num;
  }

  addBuf(p: Driver): void {
    const at = ({ next }: { next: number }) => `avail.ring[${this.#slot(next)}]`;
    p.store("addBufs: the head", at, PLAIN, (r) => r.next + 1);
    p.run((r) => {
      r.next++;
      r.adding--;
    });
  }

  publish(p: Driver): void {
    const idx = (r: { next: number }) => r.next % this.#modulus;
    p.store("driverPublish, A1 A2", "avail.idx", this.#a.publish, idx);
    p.run((r) => {
      r.published = r.next;
    });
  }

  kickNeeded(p: Driver): void {
    if (this.#shape.eventIdx) {
      p.load("kickNeeded, A2", "avail_event", this.#a.readWish, (r, event) => {
        r.isNeeded = Number(this.#needEvent(event, r.next, r.kicked));
      });
    } else {
      p.load("kickNeeded, A2", "used.flags", this.#a.readWish, (r, flags) => {
        r.isNeeded = Number(flags !== NO_NOTIFY);
      });
    }
    p.run((r) => {
      if (this.#minus(r.next, r.kicked) === 0) r.isNeeded = 0;
      r.kicked = r.next;
    });
  }

  getBufs(p: Driver): void {
    p.load("getBufs, U1", "used.idx", this.#u.idx, (r, idx) => {
      r.pending = this.#minus(idx, r.got);
    });
    p.check("VRING_E_USED_INDEX", (r) => r.pending <= r.next - r.got);
    const loop = p.fresh("got");
    const end = p.fresh("all got");
    p.label(loop);
    p.jump(end, (r) => r.pending === 0);
    const at = ({ got }: { got: number }) => `used.ring[${this.#slot(got)}]`;
    p.load("getBufs: the used element", at, PLAIN, (r, value) => {
      r.value = value;
    });
    p.check("the driver got an element that was not written yet", (r) => r.value === r.got + 1);
    p.run((r) => {
      r.value = 0;
      r.got++;
      r.pending--;
    });
    p.jump(loop);
    p.label(end);
  }

  enableCall(p: Driver): void {
    const { has, eventIdx } = this.#shape;
    const tooFar = has("enableCall: one too far") ? 1 : 0;
    const ask = () => {
      if (has("enableCall: left out")) return;
      const event = ({ got }: { got: number }) => (got + tooFar) % this.#modulus;
      if (eventIdx) p.store("enableCall, U2", "used_event", this.#u.storeWish, event);
      else p.store("enableCall, U2", "avail.flags", this.#u.storeWish, 0);
    };
    const isLate = has("enableCall: the wish after the second look");
    if (!isLate) ask();
    if (!has("enableCall: no second look")) {
      p.load("enableCall looks again, U2", "used.idx", this.#u.secondLook, (r, idx) => {
        r.isBusy = Number(this.#minus(idx, r.got) !== 0);
      });
    }
    if (isLate) ask();
  }

  disableCall(p: Driver): void {
    if (!this.#shape.eventIdx) p.store("disableCall", "avail.flags", HINT, NO_NOTIFY);
  }

  start(p: Worker): void {
    if (!this.#shape.eventIdx) p.store("deviceStart", "used.flags", HINT, 0);
  }

  availLen(p: Worker): void {
    p.load("availLen, A1", "avail.idx", this.#a.idx, (r, idx) => {
      if (this.#minus(idx, r.last) !== 0) r.isDue = 1;
    });
  }

  getDescs(p: Worker): void {
    const loop = p.fresh("pop");
    const seen = p.fresh("seen");
    const end = p.fresh("popped");
    p.label(loop);
    p.jump(seen, (r) => r.last !== r.available);
    p.load("getDescs: nextHead, A1", "avail.idx", this.#a.idx, (r, idx) => {
      r.available = r.last + this.#minus(idx, r.last);
    });
    p.check("VRING_E_AVAIL_INDEX", (r) => r.available - r.last <= this.#shape.num);
    p.jump(end, (r) => r.last === r.available);
    p.label(seen);
    const at = ({ last }: { last: number }) => `avail.ring[${this.#slot(last)}]`;
    p.load("getDescs: the head", at, PLAIN, (r, value) => {
      r.value = value;
    });
    p.check("the device popped a head that was not written yet", (r) => r.value === r.last + 1);
    p.run((r) => {
      r.value = 0;
      r.last++;
    });
    p.choose(end); // as many as were asked for
    p.jump(loop);
    p.label(end);
  }

  addUsed(p: Worker): void {
    const at = ({ used }: { used: number }) => `used.ring[${this.#slot(used)}]`;
    p.store("addUsedN: an element", at, PLAIN, (r) => r.used + 1);
    p.run((r) => {
      r.used++;
    });
  }

  devicePublish(p: Worker): void {
    const idx = (r: { used: number }) => r.used % this.#modulus;
    p.store("devicePublish, U1 U2", "used.idx", this.#u.publish, idx);
    p.run((r) => {
      r.published = r.used;
    });
  }

  callNeeded(p: Worker): void {
    const decided = p.fresh("decided");
    if (this.#shape.eventIdx) {
      p.run((r) => {
        r.isNeeded = 1;
      });
      p.jump(decided, (r) => r.isDecided === 0);
      p.load("callNeeded, U2", "used_event", this.#u.readWish, (r, event) => {
        r.isNeeded = Number(this.#needEvent(event, r.used, r.signalled));
      });
    } else {
      p.load("callNeeded, U2", "avail.flags", this.#u.readWish, (r, flags) => {
        r.isNeeded = Number(flags !== NO_NOTIFY);
      });
    }
    p.label(decided);
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
      if (!eventIdx) {
        p.store("enableKick, A2", "used.flags", this.#a.storeWish, 0);
        return;
      }
      p.load("enableKick: where the driver is", "avail.idx", this.#a.idx, (r, idx) => {
        r.value = (idx + tooFar) % this.#modulus;
      });
      p.store("enableKick, A2", "avail_event", this.#a.storeWish, (r) => r.value);
      p.run((r) => {
        r.value = 0;
      });
    };
    const isLate = has("enableKick: the wish after the second look");
    if (!isLate) ask();
    if (!has("enableKick: no second look")) {
      p.load("enableKick looks again, A2", "avail.idx", this.#a.secondLook, (r, idx) => {
        r.isBusy = Number(this.#minus(idx, r.last) !== 0);
      });
    }
    if (isLate) ask();
  }

  disableKick(p: Worker): void {
    if (!this.#shape.eventIdx) p.store("disableKick", "used.flags", HINT, NO_NOTIFY);
  }
}
