import { resolve } from "node:path";
import { VhostError } from "../spec/errno.js";
import type { Claim } from "./device.js";

type Mode = Pick<Claim, "mode">;

const held = new Map<string, Mode & { count: number }>();

/** Whether two who claim one thing can't both have it. */
const clash = (one: Mode, other: Mode) => one.mode === "exclusive" || other.mode === "exclusive";

function conflict(claim: Claim): boolean {
  const holder = held.get(claim.key);
  return holder !== undefined && clash(holder, claim);
}

/**
 * Takes all of `claims` or none: within this program, a thing is held by many that share it or by
 * one alone. Throws EBUSY naming what is taken. Returns the function that gives them back.
 */
export function takeClaims(wanted: readonly Claim[]): () => void {
  const claims = [...wanted];
  const busy = claims.find(conflict);
  if (busy) {
    const ways = ["close that one", ...(busy.remedy ? [busy.remedy] : [])].join(", or ");
    const message = `${busy.label} is open in another device; ${ways}`;
    throw new VhostError("EBUSY", message, { key: busy.key });
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

/** A path that is to be made, of a socket or a file, which nobody else may make. */
export function pathClaim(path: string): Claim {
  return { key: `path:${resolve(path)}`, label: path, mode: "exclusive" };
}

/**
 * What devices, by their names, will want for themselves, before any of them is open. Throws EBUSY
 * naming what two of them want.
 */
export function checkClaims(devices: readonly { name: string; claims: readonly Claim[] }[]): void {
  const known = new Map<string, Mode & { name: string }>();
  for (const { name, claims } of devices) {
    for (const { key, label, mode } of claims) {
      const other = known.get(key);
      if (other && clash(other, { mode })) {
        const who = other.name === name ? `${name} twice` : `${other.name} and by ${name}`;
        throw new VhostError("EBUSY", `${label} is wanted by ${who}`, { key });
      }
      known.set(key, { name, mode });
    }
  }
}
