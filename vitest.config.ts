import { tmpdir } from "node:os";
import { join } from "node:path";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    setupFiles: ["test/setup.ts"],
    testTimeout: 120_000,
    // Two processor cores are the smallest machine the suite is sized for.
    maxWorkers: 2,
    // Tests neither read nor leave what was probed of this machine.
    env: { VERIFY: "2", CIUIC_CACHE: join(tmpdir(), `ciuic-test-cache-${process.pid}`) },
  },
});
