import type { DeviceRing, DriverRing } from "#dist/ring/ring.js";
import type { VhostWorker } from "#dist/vhost/worker.js";
import type { SimNotifier } from "./notifier.js";
import type { Recovery } from "./recovery.js";

/** Parts of the product to put others in the place of: for mutants. */
export interface Parts {
  deviceRing?: (ring: DeviceRing, memory: WebAssembly.Memory) => DeviceRing;
  driverRing?: (ring: DriverRing, memory: WebAssembly.Memory) => DriverRing;
  notifier?: (notifier: SimNotifier) => SimNotifier;
  worker?: (worker: VhostWorker) => VhostWorker;
  recovery?: (recovery: Recovery) => Recovery;
}
