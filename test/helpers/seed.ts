// The seeds of random tests.

/**
 * The seed of a random test: FC_SEED in the environment, or else another each time. It is printed
 * behind `what`, a name, in the form that replays the test.
 */
export function seedOf(what: string): number {
  const seed = Number(process.env.FC_SEED ?? Date.now() % 0x8000_0000);
  console.log(`${what}: FC_SEED=${seed}`);
  return seed;
}
