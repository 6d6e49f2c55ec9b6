import { InvalidArgumentError } from "commander";

const UNITS: Record<string, number> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/**
 * Bytes of "512", "64K", "1.5G", a multiple of `unitBytes`: for an option. Throws what commander
 * shows with the option.
 */
export function parseSize(unitBytes: number): (text: string) => number {
  return (text) => {
    const [, number = "", unit = ""] = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(text) ?? [];
    const bytes = Number(number || "NaN") * (UNITS[unit.toUpperCase()] ?? Number.NaN);
    if (Number.isSafeInteger(bytes) && bytes > 0 && bytes % unitBytes === 0) return bytes;
    throw new InvalidArgumentError(
      `A size is a number of bytes, or with K, M, G or T: 64M; a multiple of ${unitBytes} bytes.`,
    );
  };
}

/** A whole number within a range, for an option. Throws what commander shows with the option. */
export function parseCount(min: number, max: number): (text: string) => number {
  return (text) => {
    const count = Number(text);
    if (/^\d+$/.test(text) && count >= min && count <= max) return count;
    throw new InvalidArgumentError(`It is a whole number from ${min} to ${max}.`);
  };
}
