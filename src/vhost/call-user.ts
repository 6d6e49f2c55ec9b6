/**
 * Calls a function of the user's. What it throws is the program's to see, and disturbs nothing
 * here.
 */
export function callUser<Value>(listener: (value: Value) => void, value: Value): void {
  try {
    listener(value);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
