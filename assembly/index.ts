// The module: functions over a state block, and nothing else. No globals, no data segments, no
// allocator, no waiting; any number of instances may work on one memory.
// The contract of every function is in src/ring/ring.ts, the layouts in src/spec/ring-state.ts.

export {
  driverReset,
  addBufs,
  driverPublish,
  kickNeeded,
  getBufs,
  enableCall,
  disableCall,
} from "./split-driver";

export {
  deviceStart,
  getDescs,
  addUsed,
  addUsedN,
  devicePublish,
  callNeeded,
  enableKick,
  disableKick,
  availLen,
} from "./split-device";
