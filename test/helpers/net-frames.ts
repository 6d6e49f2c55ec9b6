// Frames that say who they are from and for, and which one they are.

const bytesOf = (mac: string) => mac.split(":").map((digits) => Number.parseInt(digits, 16));

/** The address of a station, by its number. */
export function station(number: number): string {
  const low = number.toString(16).padStart(4, "0");
  return `02:00:00:00:${low.slice(0, 2)}:${low.slice(2)}`;
}

/** An address's bytes. */
export const macBytes = (mac: string) => Uint8Array.from(bytesOf(mac));

/** A frame whose payload begins with `body`, 16 bits; with a tag, if a VLAN is named. */
export function frameOf(to: string, from: string, body: number, vlan?: number): Buffer {
  const tag = vlan === undefined ? [] : [0x81, 0x00, vlan >>> 8, vlan & 0xff];
  const payload = Buffer.alloc(46);
  payload.writeUInt16BE(body);
  return Buffer.concat([Buffer.from([...bytesOf(to), ...bytesOf(from), ...tag, 8, 0]), payload]);
}

/** Whole numbers below a limit, the same for the same seed. */
export function random(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}
