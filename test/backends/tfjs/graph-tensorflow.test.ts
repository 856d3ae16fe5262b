/** All ops as TensorFlow graphs on a real TensorFlow. */
import { describe } from "vitest";
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
});
