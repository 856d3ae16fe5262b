/** The models as TensorFlow graphs on a real TensorFlow, against what Hugging Face transformers computes. */
import { describe } from "vitest";
import { testGolden, testTinyDeepseek } from "../../models/golden-runs.ts";
import { tensorFlowFolder } from "./tensorflow.ts";

describe.skipIf(tensorFlowFolder === null)("with TensorFlow", () => {
  const on = { packageFolder: tensorFlowFolder ?? "" };
  // Latent attention with experts, and grouped queries; each size of step that a test meets is a graph to be optimised.
  for (const name of ["v3", "qwen2-tied"] as const) testGolden("tensorflow", name, on);
  testTinyDeepseek("tensorflow", on);
});
