// The module: functions over a state block, and nothing else. No globals, no data segments, no
// allocator, no waiting; any number of instances may work on one memory.
// The contract of every function is in src/ring/ring.ts, the layouts in src/spec/ring-state.ts;
// those of io_uring in src/io-uring/ring.ts and src/spec/io-uring.ts.

export { checksumSum } from "./checksum";
export { copyBytes } from "./copy";
export {
  iouAdvance,
  iouGetSqe,
  iouKernelReset,
  iouLoseCqes,
  iouPeekCqes,
  iouPostCqes,
  iouReset,
  iouSetSqFlags,
  iouSubmit,
  iouTakeSqes,
} from "./io-uring";
export { packedAddBufs } from "./packed-add";
export {
  packedAvailLen,
  packedDeviceStart,
  packedDisableKick,
  packedEnableKick,
  packedGetDescs,
  packedKicked,
} from "./packed-device";
export {
  packedDisableCall,
  packedDriverPublish,
  packedDriverReset,
  packedEnableCall,
  packedGetBufs,
  packedKickNeeded,
} from "./packed-driver";
export {
  packedAddUsed,
  packedAddUsedN,
  packedCallNeeded,
  packedDevicePublish,
} from "./packed-used";
export { movePackets } from "./packets";
export {
  addUsed,
  addUsedN,
  availLen,
  callNeeded,
  devicePublish,
  deviceStart,
  disableKick,
  enableKick,
  getDescs,
  kicked,
} from "./split-device";
export {
  addBufs,
  disableCall,
  driverPublish,
  driverReset,
  enableCall,
  getBufs,
  kickNeeded,
} from "./split-driver";
