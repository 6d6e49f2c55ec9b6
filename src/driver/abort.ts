/** How a wait can be given up. */
export interface Abortable {
  /** Gives up waiting; what was begun goes on by itself. */
  signal?: AbortSignal | undefined;
}

/**
 * `work`, or the signal's reason if that comes first. The work is not stopped by it: a device that
 * was handed memory keeps it until it answers.
 */
export async function orAbort<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  work.catch(() => {}); // its end may come when nobody waits any more
  signal.throwIfAborted();
  let onAbort = () => {};
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
