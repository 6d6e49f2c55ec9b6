import type { ChainSide } from "../vhost/chain.js";
import type { NetOffload } from "./net-offload.js";
import type { NetPipe } from "./net-pipe.js";
import type { NetBurst, NetPackets } from "./net-stage.js";

/** The guest has a packet; it found no place; the guest's filters do not take it. */
export type NetFate = "delivered" | "discarded" | "refused";

/**
 * Where a network device's packets go to and come from, in the device's worker. Packets are as in
 * the rings: `struct virtio_net_hdr`, then the frame. Nothing here waits, and nothing throws.
 */
export interface NetPort {
  /** Packets that can be taken from the guest now, at least; the rest stays in its ring. */
  readonly room: number;
  /**
   * Takes one, of `length` bytes with its header, which `offload` has read; what there is no room
   * for is counted.
   */
  send(packet: ChainSide, length: number, offload: NetOffload): void;
  /** It cuts large packets for who does not take them: they are offered to the guest. */
  readonly cutsLarge?: boolean;
  /**
   * What the guest takes beside plain packets, TAKES_… bits; and whether it sends large ones.
   */
  setTakes(takes: number, sendsLarge: boolean): void;
  /** Up to `max` packets wait for the guest: how many. */
  count(max: number): number;
  /** The packet to deliver next, by the pipe that shows it; `undefined`: there is none. */
  peek(): NetPipe | undefined;
  /**
   * It is done with; `isDelivered`: the guest has it, or never gets it; `undefined`: it was copied,
   * and `ended` says it later.
   */
  drop(isDelivered?: boolean): void;
  /** As `NetPipe.put`, of the packets that come next, which are delivered; 0: one by one. */
  put?(burst: NetBurst): number;
  /** As `NetPipe.take`, of plain packets; 0: one by one. */
  take?(burst: NetBurst, each?: NetPackets): number;
  /** What has become of a packet, of so many bytes without virtio's header, that was copied. */
  ended?(fate: NetFate, frameBytes: number): void;
  /** A burst is over: who waits for it is woken. */
  flush(): void;
  /** In every pass of the worker, before it looks. */
  poll(): void;
  /** The worker is about to sleep. True: something came since `poll`, so it must not. */
  expect(isStalled: boolean): boolean;
  /** The guest has reset the device: what waits for it is void. */
  reset(): void;
  /** The device is gone. */
  close(): void;
}

/** Sees every packet of a port, both ways, in the worker; `length` bytes from `at` on. */
export interface NetTap {
  /** See `NetPackets`. */
  packet: NetPackets;
  /** A burst is over. */
  flush(): void;
  /** The device is gone. */
  close(): void;
}
