// Parts that are wrong: the simulation must find each of them.

import type { DeviceRing, DriverRing } from "#dist/ring/ring.js";
import { RingTables } from "#dist/ring/tables.js";
import * as s from "#dist/spec/ring-state.js";
import type { VhostWorker } from "#dist/vhost/worker.js";
import type { SimConfig } from "./config.js";
import type { SimNotifier } from "./notifier.js";
import type { Parts } from "./parts.js";
import type { Recovery } from "./recovery.js";

/** A wrong part. */
export interface Mutant {
  name: string;
  /** What the simulation says of it. */
  found: RegExp;
  /** Where it can be seen at all; the seed chooses the rest. */
  config?: Partial<SimConfig>;
  /** Made anew for each run. */
  make(): Parts;
}

type Change<T> = (target: T) => Partial<T>;

/** Puts other methods in the place of a ring's. */
const device = (
  change: (ring: DeviceRing, tables: RingTables, view: DataView) => Partial<DeviceRing>,
): Parts => ({
  deviceRing: (ring, memory) => {
    const tables = new RingTables(memory, ring.vq);
    return Object.assign(ring, change(methodsOf(ring), tables, new DataView(memory.buffer)));
  },
});
const driver = (change: Change<DriverRing>): Parts => ({
  driverRing: (ring) => Object.assign(ring, change(methodsOf(ring))),
});
const worker = (change: Change<VhostWorker>): Parts => ({
  worker: (made) => Object.assign(made, change(methodsOf(made))),
});
const notifier = (change: Change<SimNotifier>): Parts => ({
  notifier: (made) => Object.assign(made, change(methodsOf(made))),
});
const recovery = (change: Change<Recovery>): Parts => ({
  recovery: (made) => Object.assign(made, change(methodsOf(made))),
});

/** The methods as they are before they are replaced. */
function methodsOf<T extends object>(target: T): T {
  return new Proxy(target, {
    get(_target, name) {
      const prototype = Reflect.get(Object.getPrototypeOf(target), name, target);
      const value = prototype ?? Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** A ring that asks whether to notify before it publishes. */
function askedEarly(ring: { publish(): void }, ask: () => boolean) {
  return {
    publish: () => {},
    ask: () => {
      const isNeeded = ask();
      ring.publish();
      return isNeeded;
    },
  };
}

/** A device's ring that starts without one of its flags. */
const withoutFlag = (flag: number): Parts =>
  device((ring, _tables, view) => ({
    start: (position) => {
      const flags = view.getUint32(ring.vq + s.VQ_FLAGS, true);
      view.setUint32(ring.vq + s.VQ_FLAGS, flags & ~flag, true);
      return ring.start(position);
    },
  }));

/** All of them. */
export const MUTANTS: Mutant[] = [
  {
    name: "a worker that sleeps although it was kicked meanwhile",
    found: /lost wake-up: the worker|nothing goes on/,
    config: { notifier: "doorbell" },
    make: () =>
      notifier((made) => ({
        hasKicks: () => false,
        sleep(task, ms) {
          task.scheduleBy = (sleep) => sleep();
          made.sleep(task, ms);
        },
      })),
  },
  {
    name: "a worker that does not look again once it has asked for kicks",
    found: /lost wake-up: the worker/,
    make: () =>
      device((ring) => ({
        enableKick: () => {
          ring.enableKick();
          return false;
        },
      })),
  },
  {
    name: "a driver that does not look again once it has asked for calls",
    found: /lost wake-up: the driver/,
    make: () =>
      driver((ring) => ({
        enableCall: () => {
          ring.enableCall();
          return false;
        },
      })),
  },
  {
    name: "a worker that asks whether to call before it publishes",
    found: /lost wake-up: the driver/,
    make: () =>
      device((ring) => {
        const { publish, ask } = askedEarly(ring, () => ring.callNeeded());
        return { publish, callNeeded: ask };
      }),
  },
  {
    name: "a driver that asks whether to kick before it publishes",
    found: /lost wake-up: the worker/,
    make: () =>
      driver((ring) => {
        const { publish, ask } = askedEarly(ring, () => ring.kickNeeded());
        return { publish, kickNeeded: ask };
      }),
  },
  {
    name: "a worker that does not call for what one before it has published",
    found: /lost wake-up: the driver|something is to be done/,
    make: () => {
      let isMute = false;
      return {
        ...worker((made) => ({
          start: (features, rings) => {
            isMute = true;
            const started = made.start(features, rings);
            isMute = false;
            return started;
          },
        })),
        ...notifier((made) => ({ call: (queue) => (isMute ? undefined : made.call(queue)) })),
      };
    },
  },
  {
    name: "a worker that sleeps without a limit where kicks may be lost",
    found: /nothing goes on|something is to be done/,
    make: () =>
      notifier((made) => ({
        sleep(task, ms) {
          made.sleep(task, ms);
          if (this.sleepsUntil !== undefined) this.sleepsUntil = Number.POSITIVE_INFINITY;
        },
      })),
  },
  {
    name: "a worker that does not look again at a ring that it refused",
    found: /lost wake-up: the worker|something is to be done/,
    config: { policy: "strict" },
    make: () => worker(() => ({ recheckRefused: () => {} })),
  },
  {
    name: "a chain that is used twice",
    found: /VRING_E_USED|VRING_E_COMPLETION|completed twice|0 bytes of|request/,
    make: () =>
      device((ring, tables) => ({
        addUsedN: (count) => {
          if (count > 1) ring.addUsed(tables.head(0), tables.usedBytes(0));
          return ring.addUsedN(count);
        },
      })),
  },
  {
    name: "a burst whose last chain is never used",
    found: /something is to be done|nothing goes on|in flight|VRING_E|lost wake-up|status/,
    make: () => device((ring) => ({ addUsedN: (n) => ring.addUsedN(n > 1 ? n - 1 : n) })),
  },
  {
    name: "a burst with two lengths changed for one another",
    found: /bytes of|VRING_E_USED_LENGTH/,
    make: () =>
      device((ring, tables) => ({
        addUsedN: (count) => {
          if (count > 1) {
            const first = tables.usedBytes(0);
            tables.setUsedBytes(0, tables.usedBytes(1));
            tables.setUsedBytes(1, first);
          }
          return ring.addUsedN(count);
        },
      })),
  },
  {
    name: "a restart that leaves a request out",
    found: /something is to be done|nothing goes on|VRING_E|out of order|differ/,
    make: () =>
      recovery((made) => ({
        base: (ring) => {
          const base = made.base(ring);
          return base === undefined || base > 0xffff ? base : (base + 1) & 0xffff;
        },
      })),
  },
  {
    name: "a restart that forgets what was in flight",
    found: /something is to be done|nothing goes on|in the in-flight area|in flight|VRING_E/,
    config: { policy: "strict", recovery: "inflight" },
    make: () =>
      device((ring, _tables, view) => ({
        start: (position) => {
          view.setUint32(ring.vq + s.VQ_RESUBMIT_COUNT, 0, true);
          return ring.start(position);
        },
      })),
  },
  {
    name: "a stop that is a request behind",
    found: /was at|VRING_E|completed|differ|lost wake-up|in flight/,
    make: () =>
      worker((made) => ({
        stop: async () => {
          const positions = await made.stop();
          return positions.map((one) =>
            one.position > 0 && one.position <= 0xffff
              ? { ...one, position: one.position - 1 }
              : one,
          );
        },
      })),
  },
  {
    name: "a queue that is moved and begins where it began",
    found: /VRING_E|completed|differ|lost wake-up|in flight|something is to be done|status/,
    make: () =>
      worker((made) => ({ startQueue: (ring) => made.startQueue({ ...ring, goesOn: false }) })),
  },
  {
    name: "a reset that does not stop the queues",
    found: /./,
    make: () => worker(() => ({ reset: async () => {} })),
  },
  {
    name: "a device that writes to a buffer after its end",
    found: /written after its end|beside its buffer|sector \d+ begins with|bytes, status|status/,
    make: () =>
      device((ring, tables, view) => {
        let last = 0;
        return {
          addUsedN: (count) => {
            last = tables.iovAddress(tables.iovStart(0) + tables.outCount(0));
            return ring.addUsedN(count);
          },
          getDescs: (max) => {
            if (last > 0) view.setUint8(last, 1);
            return ring.getDescs(max);
          },
        };
      }),
  },
  {
    name: "pages that are not marked in the dirty log",
    found: /page \d+ was written, and is not in the dirty log/,
    config: { hasLog: true, isOutOfOrder: false },
    make: () => withoutFlag(s.VQ_F_LOG),
  },
  {
    name: "a ring that is not marked in the dirty log",
    found: /its ring was written, and is not in the dirty log/,
    config: { hasLog: true, logsRings: true, isOutOfOrder: false },
    make: () => withoutFlag(s.VQ_F_LOG_USED),
  },
];
