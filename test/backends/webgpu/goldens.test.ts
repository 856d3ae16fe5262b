/** The compiled models on WebGPU against what Hugging Face transformers computes. */
import { describe } from "vitest";
import { testGolden, testTinyDeepseek } from "../../models/golden-runs.ts";
import { goldenNames } from "../../models/read-golden.ts";
import { hasGpu, isSoftware } from "./gpu.ts";

/** Latent attention with experts, the most kernels. A processor that plays GPU takes a minute for each golden. */
const few: readonly (typeof goldenNames)[number][] = ["v3"];

describe.skipIf(!hasGpu)("with a driver", () => {
  for (const name of isSoftware ? few : goldenNames) testGolden("webgpu", name);
});
describe.skipIf(!hasGpu || isSoftware)("with a GPU", () => testTinyDeepseek("webgpu"));
