/** Operations that are done one at a time, in the order of the calls. Linux: the device's mutex. */
export class Turns {
  #count = 0;
  #last = Promise.resolve();

  /** Whether none is under way. */
  get isIdle(): boolean {
    return this.#count === 0;
  }

  /** Does `work` when the operations called before have ended. */
  take<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#last.then(work);
    const end = () => {
      this.#count--;
    };
    this.#count++;
    this.#last = run.then(end, end);
    return run;
  }
}
