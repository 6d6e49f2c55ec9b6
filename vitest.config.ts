import { defineConfig } from "vitest/config";

// Tests import the built files (`#dist/…`): what ships is what is tested, worker threads included.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 30_000,
    expect: { poll: { timeout: 10_000 } }, // others may have the cores for a while
    server: { deps: { external: [/\/dist\//] } },
  },
});
