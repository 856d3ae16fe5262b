/** All ops as TensorFlow graphs on a real TensorFlow. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "vitest";
import { prepareDevice } from "../../../src/compile.ts";
import { runBackendTests } from "../run-backend-tests.ts";
import { noUnsigned } from "./skipped.ts";
import { tensorFlowFolder } from "./tensorflow.ts";

describe.skipIf(tensorFlowFolder === null)("with TensorFlow", () => {
  runBackendTests({
    backend: "tensorflow",
    open: () => prepareDevice("tensorflow", { packageFolder: tensorFlowFolder! }),
    // It sets the processor so when it starts threads.
    flushes: true,
    skip: [noUnsigned],
  });

  it("lets a process end that opened and closed a device", () => {
    const folder = mkdtempSync(join(tmpdir(), "ending-"));
    const script = join(folder, "script.mjs");
    const compiler = new URL("../../../src/compile.ts", import.meta.url);
    writeFileSync(
      script,
      `import { prepareDevice } from ${JSON.stringify(compiler.href)};
      const device = await prepareDevice("tensorflow", { packageFolder: process.argv[2] });
      await device.close();`,
    );
    try {
      // Throws where the process ends by a signal.
      execFileSync(process.execPath, [script, tensorFlowFolder!], { stdio: "pipe" });
    } finally {
      rmSync(folder, { recursive: true });
    }
  }, 60_000);
});
