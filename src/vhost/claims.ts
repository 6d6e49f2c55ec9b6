import { VhostError } from "../spec/errno.js";
import type { Claim } from "./device.js";

const held = new Map<string, { count: number; mode: Claim["mode"] }>();

function conflict(claim: Claim): boolean {
  const holder = held.get(claim.key);
  return holder !== undefined && (holder.mode === "exclusive" || claim.mode === "exclusive");
}

/**
 * Takes all of `claims` or none: within this program, a thing is held by many that share it or by
 * one alone. Throws EBUSY naming what is taken. Returns the function that gives them back.
 */
export function takeClaims(wanted: readonly Claim[]): () => void {
  const claims = [...wanted];
  const busy = claims.find(conflict);
  if (busy) {
    throw new VhostError(
      "EBUSY",
      `${busy.label} is open in another device; close that one, or open \
both read-only`,
      { key: busy.key },
    );
  }
  for (const { key, mode } of claims) {
    held.set(key, { count: (held.get(key)?.count ?? 0) + 1, mode });
  }
  return () => {
    for (const { key } of claims.splice(0)) {
      const holder = held.get(key);
      if (holder && --holder.count === 0) held.delete(key);
    }
  };
}
