import { SingleBar } from "cli-progress";

/** A bar for long work, on a terminal; nothing elsewhere. Written to standard error. */
export class Progress {
  #bar: SingleBar | undefined;

  /** Begins a phase of `totalBytes`; returns what to call with the bytes that were done. */
  phase(name: string, totalBytes: number): (bytes: number) => void {
    this.stop();
    const bar = new SingleBar({
      format: "{name} [{bar}] {percentage}% of {megabytes} MB",
      barsize: 30,
      hideCursor: true,
      clearOnComplete: true,
      stopOnComplete: true,
    });
    bar.start(totalBytes, 0, { name: name.padEnd(16), megabytes: (totalBytes / 1e6).toFixed(0) });
    this.#bar = bar;
    return (bytes) => bar.increment(bytes);
  }

  /** Takes the bar away. */
  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}
