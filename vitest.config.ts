import { configDefaults, defineConfig } from "vitest/config";

/** With `VHOST_WASM_GUESTS=elsewhere`, who runs the rest runs the guests in another process. */
const areElsewhere = process.env.VHOST_WASM_GUESTS === "elsewhere";

// Tests import the built files (`#dist/…`): what ships is what is tested, worker threads included.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: [...configDefaults.exclude, ...(areElsewhere ? ["test/guest/**"] : [])],
    testTimeout: 30_000,
    hookTimeout: 30_000, // programs begin in hooks, too
    expect: { poll: { timeout: 10_000 } }, // others may have the cores for a while
    server: { deps: { external: [/\/dist\//] } },
  },
});
