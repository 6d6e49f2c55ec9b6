import { defineConfig } from "vitest/config";

// Tests import the built files (`#dist/…`): what ships is what is tested, worker threads included.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 30_000,
    server: { deps: { external: [/\/dist\//] } },
  },
});
