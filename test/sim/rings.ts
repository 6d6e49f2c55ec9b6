import type { Piece } from "#dist/driver/queue.js";
import type { SharedMemory } from "#dist/memory/shared-memory.js";
import { loadRings, type RingKind, type Rings } from "#dist/ring/load.js";
import type { DeviceRing, DriverRing } from "#dist/ring/ring.js";
import { RingTables } from "#dist/ring/tables.js";
import * as s from "#dist/spec/ring-state.js";
import { VIRTQ_DESC_BYTES, VIRTQ_RING_IDX } from "#dist/spec/virtio-ring.js";
import type { Parts } from "./parts.js";
import type { Actor, World } from "./world.js";

type Ring = DeviceRing | DriverRing;

/** Too frequent, and too little of news, for the trace. */
const UNTOLD = new Set(["availLen"]);

/** Whose rings they are, and what is between their calls. */
export interface Wrapping {
  world: World;
  actor: Actor;
  parts: Parts;
  /** Its owner is dead: what of it still runs, in a microtask, does nothing. */
  isDead?: () => boolean;
  /** Device: the ring at `vq` was started. */
  onStart?: (vq: number) => void;
  /** Device: takes over completions, where these come later and in another order. */
  defer?: (ring: DeviceRing) => DeviceRing;
}

/** The ring, with the world going on before and after each call. */
function observed<R extends Ring>(ring: R, name: string, wrapping: Wrapping): R {
  const { world, actor, isDead, onStart } = wrapping;
  return new Proxy(ring, {
    get(target, method: string) {
      const call = Reflect.get(target, method);
      if (typeof call !== "function") return call;
      return (...args: number[]) => {
        if (isDead?.()) return 0;
        world.between(actor);
        const answer = call.apply(target, args);
        if (method === "start") onStart?.(target.vq);
        if (!UNTOLD.has(method)) {
          const gives = answer === undefined ? "" : ` = ${answer}`;
          world.say(`${name} ${method}(${args.join(", ")})${gives}`);
        }
        world.between(actor);
        return answer;
      };
    },
  });
}

/** Rings of the product over `memory`, as the simulation has them. */
export function simRings(memory: WebAssembly.Memory, kind: RingKind, wrapping: Wrapping): Rings {
  const rings = loadRings(memory, kind);
  const { parts, defer, actor } = wrapping;
  let count = 0;
  const name = () => `${actor.name} ring ${count++}`;
  return {
    driver: (vq) => {
      const ring = rings.driver(vq);
      return observed(parts.driverRing?.(ring, memory) ?? ring, name(), wrapping);
    },
    device: (vq) => {
      const bare = rings.device(vq);
      const ring = observed(parts.deviceRing?.(bare, memory) ?? bare, name(), wrapping);
      return defer?.(ring) ?? ring;
    },
  };
}

/** A driver's split ring that was reset becomes one that has had so many requests; a u16. */
export function moveTo({ view }: SharedMemory, vq: number, position: number): void {
  for (const word of [s.VQ_AVAIL_NEXT, s.VQ_AVAIL_PUBLISHED, s.VQ_KICKED, s.VQ_LAST_USED]) {
    view.setUint32(vq + word, position, true);
  }
  for (const area of [s.VQ_DRIVER, s.VQ_DEVICE]) {
    view.setUint16(view.getUint32(vq + area, true) + VIRTQ_RING_IDX, position, true);
  }
}

/** A driver's split ring shows an available index that is `ahead` of what was published. */
export function setIndex({ view }: SharedMemory, vq: number, ahead: number): void {
  const at = view.getUint32(vq + s.VQ_DRIVER, true) + VIRTQ_RING_IDX;
  view.setUint16(at, (view.getUint32(vq + s.VQ_AVAIL_PUBLISHED, true) + ahead) & 0xffff, true);
}

/** Where the device tells a driver's ring what it used: a split ring's index, or descriptors. */
export function usedArea({ view }: SharedMemory, vq: number): Piece {
  const isPacked = (view.getUint32(vq + s.VQ_FLAGS, true) & s.VQ_F_PACKED) !== 0;
  const address = view.getUint32(vq + (isPacked ? s.VQ_DESC : s.VQ_DEVICE), true);
  if (!isPacked) return { address: address + VIRTQ_RING_IDX, length: 2 };
  return { address, length: view.getUint32(vq + s.VQ_NUM, true) * VIRTQ_DESC_BYTES };
}

interface Completion {
  head: number;
  usedBytes: number;
}

/**
 * A device's half that completes later and in another order, as a device with I/O of its own does:
 * what is done is held, and completed when the worker next has a moment for it.
 */
export class DeferringRing {
  readonly #ring: DeviceRing;
  readonly #tables: RingTables;
  readonly #world: World;
  #held: Completion[] = [];
  /** For the worker, in the ring's place. */
  readonly ring: DeviceRing;

  /** `onHold`: something is held now. */
  constructor(ring: DeviceRing, memory: WebAssembly.Memory, world: World, onHold: () => void) {
    this.#ring = ring;
    this.#tables = new RingTables(memory, ring.vq);
    this.#world = world;
    this.ring = new Proxy(ring, {
      get: (target, method) => {
        if (method === "addUsedN") return (count: number) => this.#addUsedN(count, onHold);
        const value = Reflect.get(target, method);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  }

  #addUsedN(count: number, onHold: () => void): number {
    for (let i = 0; i < count; i++) {
      this.#held.push({ head: this.#tables.head(i), usedBytes: this.#tables.usedBytes(i) });
    }
    const { random } = this.#world;
    this.#held = random.shuffled(this.#held);
    this.#complete(random.below(this.#held.length + 1));
    if (this.#held.length > 0) onHold();
    return 0;
  }

  #complete(count: number): void {
    for (let left = count; left > 0; left--) {
      const { head, usedBytes } = this.#held.pop() as Completion;
      this.#ring.addUsed(head, usedBytes);
    }
  }

  /** Completes all that is held, and tells the driver: true when that asked for it. */
  flush(): boolean {
    if (this.#held.length === 0) return false;
    this.#complete(this.#held.length);
    this.#ring.publish();
    return this.#ring.callNeeded();
  }
}
