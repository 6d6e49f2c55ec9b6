import { loadRings, type RingKind, type Rings } from "#dist/ring/load.js";
import type { DeviceRing, DriverRing } from "#dist/ring/ring.js";
import { RingTables } from "#dist/ring/tables.js";
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
