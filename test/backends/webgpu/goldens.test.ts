/** The compiled models on WebGPU against what Hugging Face transformers computes. */
import { describe } from "vitest";
import { testGolden, testTinyDeepseek } from "../../models/golden-runs.ts";
import { goldenNames } from "../../models/read-golden.ts";
import { hasGpu } from "./gpu.ts";

describe.skipIf(!hasGpu)("with a driver", () => {
  for (const name of goldenNames) testGolden("webgpu", name);
  testTinyDeepseek("webgpu");
});
