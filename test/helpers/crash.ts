// Runs the programs of `crash-program.ts`, and holds every answer against what a driver knows: each
// chain that it published comes back once, and is popped once by each device that goes on.

import { expect } from "vitest";
import type { RingKind } from "#dist/ring/load.js";
import { loadRings } from "#dist/ring/load.js";
import type { DeviceRing, DriverRing } from "#dist/ring/ring.js";
import * as s from "#dist/spec/ring-state.js";
import type { CrashChain, CrashStep, DeviceStep } from "./crash-program.js";
import { PackedFixture } from "./packed-fixture.js";
import { FIRST } from "./packed-pair.js";
import { DyingRegion, forget, goOn } from "./record-area.js";
import { recordRings } from "./recorded-ring.js";
import { makeMemory, type Piece, RingFixture, type RingShape } from "./ring-fixture.js";

/** The end of a device's half. */
class End extends Error {}

/** A chain that the driver published and has not back. */
interface Chain {
  /** Split: its head. Packed: its id. */
  head: number;
  isBad: boolean;
  pieces: Piece[];
  /** In the present device's life: popped, used. */
  isPopped: boolean;
  isUsed: boolean;
  /** What `addUsed` wants. */
  name: number;
  inBytes: number;
}

const PIECE_BYTES = 8;
/** Why a packed ring stands still. */
const REFUSALS = [s.VRING_E_LOOP, s.VRING_E_UNAVAILABLE];

/** One ring, whose device ends and begins again. */
export class CrashRing {
  readonly f: RingFixture;
  readonly #driver: DriverRing;
  readonly #device: DeviceRing;
  /** A device's state block as the host sets it up. */
  readonly #block: Uint8Array;
  /** Stores that the device makes before it ends. */
  #storesLeft = Number.POSITIVE_INFINITY;
  /** Chains that are the device's, in the order in which they were published. */
  #out: Chain[] = [];
  #nextPiece = 0;
  /** Chains that were resubmitted, and devices that ended. */
  resubmitted = 0;
  ends = 0;

  constructor(kind: RingKind, shape: Partial<RingShape>) {
    const memory = makeMemory(true);
    const record = { log: false, logUsed: false, inflight: true, logBytes: 0 };
    this.f = new (shape.packed ? PackedFixture : RingFixture)(memory, { ...shape, record });
    const { rings, trace } = recordRings(memory, kind);
    this.#driver = loadRings(memory, kind).driver(this.f.driver.vq);
    this.#device = rings.device(this.f.device.vq);
    trace.all.push = ({ op }) => {
      if (op === "store" && this.#storesLeft-- <= 0) throw new End();
      return 0;
    };
    this.#driver.reset();
    this.#block = this.f.bytes.slice(this.f.device.vq, this.f.device.vq + s.VQ_STATE_BYTES);
    const position = shape.packed ? FIRST : 0;
    forget(this.f, position);
    expect(this.#device.start(position)).toBe(0);
  }

  get #inOrder(): boolean {
    return this.f.shape.inOrder;
  }

  /** Runs one step. */
  run(step: CrashStep): void {
    if (step.op === "add") this.#add(step.chains);
    else if (step.op === "get") this.#get();
    else if (step.op === "crash") this.#crash(step);
    else this.#work(step);
  }

  #add(chains: readonly CrashChain[]): void {
    const { f } = this;
    let iov = 0;
    const made = chains.map(({ out, into, isBad }, i) => {
      const all = Array.from({ length: out + into }, () => {
        const place = (this.#nextPiece++ * PIECE_BYTES) % f.shape.dataBytes;
        return { linear: isBad ? f.end + place : f.data + place, bytes: PIECE_BYTES };
      });
      f.setChain(i, iov, all.slice(0, out), all.slice(out));
      iov += all.length;
      return { isBad, pieces: all, inBytes: into * PIECE_BYTES };
    });
    const added = Math.max(this.#driver.addBufs(chains.length), 0);
    for (const [i, chain] of made.slice(0, added).entries()) {
      const { head } = f.record("driver", i);
      this.#out.push({ ...chain, head, name: head, isPopped: false, isUsed: false });
    }
    this.#driver.publish();
  }

  /** What the device published comes back: nothing that it has not used. */
  #get(): void {
    const got = this.#driver.getBufs(1000);
    expect(got, "getBufs").toBeGreaterThanOrEqual(0);
    for (let i = 0; i < got; i++) {
      const { head } = this.f.record("driver", i);
      const at = this.#out.findIndex((chain) => chain.head === head);
      const chain = this.#out[at];
      expect(chain && (chain.isUsed || chain.isBad), `chain ${head} came back`).toBe(true);
      this.#out.splice(at, 1);
    }
  }

  #work(step: DeviceStep): void {
    if (step.op === "pop") this.#pop(step.max);
    else if (step.op === "publish") this.#device.publish();
    else if (step.op === "enableKick") this.#device.enableKick();
    else if (step.op === "use") this.#use(step.picks);
    else this.#useN(step);
  }

  /** Pops: the chains that come are the first of those that are there. */
  #pop(max: number): number {
    const { f } = this;
    const got = this.#device.getDescs(max);
    expect(got, "getDescs").toBeGreaterThanOrEqual(0);
    const waiting = this.#out.filter(({ isPopped, isBad }) => !isPopped && !isBad);
    for (let i = 0; i < got; i++) {
      const { head, iovStart, outCount, inCount } = f.record("device", i);
      const chain = waiting[i] as Chain;
      expect(chain, `chain ${head} was popped, and none is there`).toBeDefined();
      expect(f.shape.packed ? head & 0xffff : head, "the chain that comes next").toBe(chain.head);
      const count = outCount + inCount;
      const pieces = Array.from({ length: count }, (_, k) => f.piece("device", iovStart + k));
      expect(pieces).toEqual(chain.pieces);
      chain.isPopped = true;
      chain.name = head;
    }
    return got;
  }

  /** So many chains that were popped and not used, each once. */
  #pick(picks: readonly number[]): Chain[] {
    const open = this.#out.filter(({ isPopped, isUsed }) => isPopped && !isUsed);
    if (this.#inOrder) return open.slice(0, picks.length);
    return picks.flatMap((pick) => open.splice(pick % Math.max(open.length, 1), 1));
  }

  #use(picks: readonly number[]): void {
    for (const chain of this.#pick(picks)) {
      chain.isUsed = true;
      expect(this.#device.addUsed(chain.name, chain.inBytes)).toBe(0);
    }
  }

  #useN({ picks, whole }: { picks: readonly number[]; whole: number }): void {
    const chains = this.#pick(picks);
    for (const [i, chain] of chains.entries()) {
      chain.isUsed = true;
      const usedBytes = (whole >> i) & 1 ? chain.inBytes : 0;
      const { name: head, inBytes } = chain;
      this.f.setRecord("device", i, { head, inBytes, usedBytes });
    }
    expect(this.#device.addUsedN(chains.length)).toBe(0);
  }

  /** The device ends in or behind a step, the one that goes on at times before it begins. */
  #crash({ step, stores, recoveryWrites }: Extract<CrashStep, { op: "crash" }>): void {
    this.#storesLeft = stores;
    try {
      this.#work(step);
    } catch (error) {
      if (!(error instanceof End)) throw error;
    }
    this.#storesLeft = Number.POSITIVE_INFINITY;
    this.#get(); // what is visible is used; all else is not
    for (const chain of this.#out) chain.isPopped = chain.isUsed = false;
    this.#loseState();
    const region = new DyingRegion(this.f, recoveryWrites);
    try {
      goOn(this.f, region.view);
    } catch (error) {
      if (!region.isDead) throw error;
    }
    const position = goOn(this.f);
    this.resubmitted += this.f.word("device", s.VQ_RESUBMIT_COUNT);
    this.ends++;
    expect(this.#device.start(position)).toBe(0);
  }

  /** What only the device that ended knew: the next one's state block is another. */
  #loseState(): void {
    this.#checkErrors();
    this.f.bytes.set(this.#block, this.f.device.vq);
    const own = [s.VQ_IN_FLIGHT, s.VQ_LAST_AVAIL, s.VQ_AVAIL_SEEN, s.VQ_USED_NEXT];
    for (const word of [...own, s.VQ_USED_PUBLISHED, s.VQ_STAGED_FLAGS, s.VQ_INFLIGHT_HEAD]) {
      this.f.setWord("device", word, 0x5a5a);
    }
    this.f.bytes.fill(0x5a, this.f.areas.table, this.f.areas.resubmit + 16 * this.f.num);
  }

  /** Starts on what somebody has spoilt, and works: what is popped is sound, whatever comes. */
  workBlindly(position: number): void {
    const { f } = this;
    expect(this.#device.start(position)).toBe(0);
    const isLeft = () => f.word("device", s.VQ_RESUBMIT_NEXT) < this.#toResubmit;
    for (let calls = 0; isLeft(); calls++) {
      expect(calls, "calls that resubmit nothing").toBeLessThan(100);
      const got = this.#device.getDescs(4);
      // Behind the last of those it goes on in the ring, where the region says: anywhere.
      if (f.shape.packed && isLeft()) expect(REFUSALS).not.toContain(f.word("device", s.VQ_ERROR));
      for (let i = 0; i < got; i++) {
        const { head, iovStart, outCount, inCount } = f.record("device", i);
        if (!f.shape.packed) expect(head).toBeLessThan(f.num);
        for (let k = 0; k < outCount + inCount; k++) {
          const { linear, bytes } = f.piece("device", iovStart + k);
          expect(linear >= f.desc && linear + bytes <= f.desc + f.region(0).bytes).toBe(true);
        }
      }
      const code = this.#device.addUsedN(Math.max(got, 0));
      this.#device.publish();
      if (f.shape.packed && code !== 0) {
        // Two lists of one id, which no sound driver gives: they can't be told apart, and wait.
        expect(code).toBe(-s.VRING_E_COMPLETION);
        return;
      }
    }
  }

  get #toResubmit(): number {
    return this.f.word("device", s.VQ_RESUBMIT_COUNT);
  }

  /** Works until all is back. */
  finish(): void {
    for (let calls = 0; this.#out.length > 0; calls++) {
      expect(calls, `left: ${this.#out.map(({ head }) => head)}`).toBeLessThan(100);
      this.#pop(1000);
      this.#use(Array(100).fill(0));
      this.#device.publish();
      this.#get();
    }
    expect(this.#pop(1000), "chains that come from nowhere").toBe(0);
    expect(this.f.word("device", s.VQ_IN_FLIGHT)).toBe(0);
    this.#checkErrors();
  }

  /** No error but those of chains that are bad. */
  #checkErrors(): void {
    for (let code = 1; code < s.VRING_E_COUNT; code++) {
      if (code !== s.VRING_E_ADDRESS) expect(this.f.errors("device", code), `${code}`).toBe(0);
    }
  }
}
