/** The compiled models on WebGPU against what Hugging Face transformers computes. */
import { describe } from "vitest";
import { testGolden, testTinyDeepseek } from "../../models/golden-runs.ts";
import { goldenNames } from "../../models/read-golden.ts";
import { hasGpu, isSoftware } from "./gpu.ts";

/** Latent attention with experts, the most kernels: a processor that plays GPU has time for all the tests of one golden only. */
const whole: (typeof goldenNames)[number] = "v3";

describe.skipIf(!hasGpu)("with a driver", () => {
  for (const name of goldenNames) testGolden("webgpu", name, {}, { brief: isSoftware && name !== whole });
});
describe.skipIf(!hasGpu || isSoftware)("with a GPU", () => testTinyDeepseek("webgpu"));
