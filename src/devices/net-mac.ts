import { randomFillSync } from "node:crypto";
import { VhostError } from "../spec/errno.js";
import { ETH_ALEN, ETH_GROUP } from "../spec/virtio-net.js";

const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;
/** In the first byte: given by whoever runs the network, not by a maker. */
const LOCAL = 2;

/**
 * The bytes of a station's address, "52:54:00:12:34:56"; without one, of a random one. Throws
 * EINVAL for anything else, and for a group's.
 */
export function parseMac(text?: string): Uint8Array {
  if (text === undefined) {
    const mac = randomFillSync(new Uint8Array(ETH_ALEN));
    mac[0] = ((mac[0] as number) & ~ETH_GROUP) | LOCAL;
    return mac;
  }
  if (typeof text === "string" && MAC.test(text)) {
    const mac = Uint8Array.from(text.split(":"), (digits) => Number.parseInt(digits, 16));
    const isGroup = ((mac[0] as number) & ETH_GROUP) !== 0;
    if (!isGroup && mac.some((byte) => byte !== 0)) return mac;
  }
  const message = "mac is the address of one station: 52:54:00:12:34:56, say";
  throw new VhostError("EINVAL", message, { mac: text });
}

/** An address as people write it. */
export function formatMac(mac: Uint8Array): string {
  return [...mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}
