/** Lines kept for the report of a failure. */
const KEPT_LINES = 50;

/** What happened, in order: every line goes into a hash, the last ones are kept. */
export class Trace {
  readonly #print: ((line: string) => void) | undefined;
  readonly #kept: string[] = [];
  #hash = 0x811c9dc5;

  /** `print` gets every line. */
  constructor(print?: (line: string) => void) {
    this.#print = print;
  }

  /** Adds a line. */
  add(line: string): void {
    let hash = this.#hash;
    for (let i = 0; i < line.length; i++) hash = Math.imul(hash ^ line.charCodeAt(i), 0x01000193);
    this.#hash = Math.imul(hash ^ 10, 0x01000193);
    this.#kept.push(line);
    if (this.#kept.length > KEPT_LINES * 2) this.#kept.splice(0, KEPT_LINES);
    this.#print?.(line);
  }

  /** FNV-1a of all lines, as text: equal for equal runs. */
  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, "0");
  }

  /** The last lines. */
  get last(): string[] {
    return this.#kept.slice(-KEPT_LINES);
  }
}
