import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    setupFiles: ["test/setup.ts"],
    testTimeout: 120_000,
    // Two processor cores are the smallest machine the suite is sized for.
    maxWorkers: 2,
    env: { VERIFY: "2" },
  },
});
