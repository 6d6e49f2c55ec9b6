// Scenarios of a real kernel's data path that are about the device: what is in packets, the queue
// to the guest, and when a kick counts.

import { setTimeout as sleep } from "node:timers/promises";
import { VIRTQ_DESC_F_WRITE } from "#dist/spec/virtio-ring.js";
import { readHeader } from "#dist/vsock/header.js";
import type { Scenario } from "./datapath.js";
import type { DeviceLab } from "./datapath-device-lab.js";

/** Longer than any pass of the worker; the records waited as long. */
const NO_KICK_MS = 100;
const NO_RX = { rxBuffers: 0 };

/** By id. */
export const DEVICE_SCENARIOS: Record<string, Scenario<DeviceLab>> = {
  "dp-20-hdr-len-too-big": {
    run: async (lab) => {
      lab.putPacket(lab.packet().addr, { len: 100 });
      lab.f.offer(0);
      await lab.kickAndRepair();
    },
  },
  "dp-30b-unknown-type": {
    run: async (lab) => {
      lab.putPacket(lab.packet().addr, { type: 7 });
      lab.f.offer(0);
      await lab.kickAndRepair();
    },
  },
  "dp-38-kick-before-running": {
    run: async (lab) => {
      await lab.stop();
      lab.f.offer(0);
      lab.f.fds.kick();
      lab.seen.before_used_idx = lab.f.usedIdx;
      await lab.start(0);
      lab.seen.after_running_used_idx = lab.f.usedIdx;
      await lab.kick("again");
      lab.seen.after_kick_used_idx = lab.f.usedIdx;
    },
    leftOut: ["running"],
  },
  "dp-40-rx-empty-then-refill": {
    shape: NO_RX,
    run: async (lab) => {
      await lab.send("tx");
      lab.seen.rx_used_idx = lab.rx.usedIdx;
      lab.seen.rx_used_flags = lab.rx.usedFlags;
      lab.offerRx(0);
      await sleep(NO_KICK_MS);
      lab.seen.rx_used_idx_posted_no_kick = lab.rx.usedIdx;
      await lab.kickRx();
      lab.seen.rx_used_idx_after_kick = lab.rx.usedIdx;
    },
  },
  "dp-41-rx-small-buffer": {
    shape: NO_RX,
    run: async (lab) => {
      lab.offerRx(0, 20);
      lab.offerRx(1);
      await lab.send("tx");
      const { errors } = lab.rx.fds.take();
      Object.assign(lab.seen, {
        rx_used_idx: lab.rx.usedIdx,
        rx_err: errors,
        rx_last_avail: lab.rxLastAvail,
      });
      await lab.kickRx();
      lab.seen.rx_used_idx_2 = lab.rx.usedIdx;
      await lab.send("second", 1);
      lab.seen.rx_used_idx_3 = lab.rx.usedIdx;
      lab.seen.rx_used0_id = lab.rx.usedElem(0)[0];
      lab.seen.rx_last_avail_3 = lab.rxLastAvail;
    },
  },
  "dp-42-rx-readable-desc": {
    shape: NO_RX,
    run: async (lab) => {
      lab.offerRx(0, 512, 0);
      lab.offerRx(1);
      await lab.send("tx");
      const { errors } = lab.rx.fds.take();
      Object.assign(lab.seen, {
        rx_used_idx: lab.rx.usedIdx,
        rx_err: errors,
        rx_last_avail: lab.rxLastAvail,
      });
      await lab.send("second", 1);
      lab.seen.rx_used_idx_2 = lab.rx.usedIdx;
      lab.seen.rx_used0_id = lab.rx.usedElem(0)[0];
    },
  },
  "dp-43-rx-split": {
    shape: { num: 16, rxBuffers: 0 },
    run: async (lab) => {
      lab.sockets.listen(9999, (stream) => {
        stream.on("error", () => {}).write(new Uint8Array(50));
        lab.seen.host_send = 50;
      });
      for (let i = 0; i < 6; i++) lab.offerRx(i, 64, VIRTQ_DESC_F_WRITE);
      await lab.send("tx");
      lab.seen.rx_used_idx = lab.rx.usedIdx;
      for (const slot of [1, 2, 3]) {
        const [id, len] = lab.rx.usedElem(slot);
        lab.seen[`used${slot}_len`] = len;
        lab.seen[`used${slot}_hdr_len`] = readHeader(lab.rx.view, lab.rxBuffer(id)).len;
      }
    },
  },
  "dp-70-no-kick": {
    shape: { rxBuffers: 6 },
    run: async (lab) => {
      await lab.send("tx", 0);
      const { usedIdx } = lab.f;
      lab.f.offer(1);
      await sleep(NO_KICK_MS);
      lab.seen.used_no_kick = lab.f.usedIdx - usedIdx;
      await lab.kick("again");
      lab.seen.used_after_kick = lab.f.usedIdx - usedIdx;
    },
    leftOut: ["write0", "used_after_write0"], // poll(2) does not tell of it
  },
};
