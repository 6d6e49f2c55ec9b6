import { VhostError } from "./errno.js";

/**
 * Throws EINVAL for a name in `options` that is not among `known`: a slip of the pen must not pass
 * for a default. `what`: who has the options, as a person says it.
 */
export function checkNames(what: string, options: object, known: readonly string[]): void {
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown === undefined) return;
  const message = `${what} has no option ${unknown}; it has ${known.join(", ")}`;
  throw new VhostError("EINVAL", message, { option: unknown });
}
