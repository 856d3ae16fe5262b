/** The models as TensorFlow graphs on a real TensorFlow, against what Hugging Face transformers computes. */
import { describe } from "vitest";
import { testGolden, testTinyDeepseek } from "../../models/golden-runs.ts";
import { goldenNames } from "../../models/read-golden.ts";
import { tensorFlowFolder } from "./tensorflow.ts";

describe.skipIf(tensorFlowFolder === null)("with TensorFlow", () => {
  const on = { packageFolder: tensorFlowFolder ?? "" };
  for (const name of goldenNames) testGolden("tensorflow", name, on);
  testTinyDeepseek("tensorflow", on);
});
