/** TensorFlow.js's WebGPU backend on a GPU device of ours: every op, and a model. */
import { describe } from "vitest";
import { prepareDevice } from "../../../src/compile.ts";
import { testGolden } from "../../models/golden-runs.ts";
import { runBackendTests } from "../run-backend-tests.ts";
import { gpu, hasGpu } from "../webgpu/gpu.ts";
import { noUnsigned } from "./skipped.ts";

const skip = [
  noUnsigned,
  {
    reason: "its kernels read integers that broadcast as f32, which has no odd ones beyond 2^24",
    cases: ["div i32", "rem i32", "cast f32 to i32"],
  },
  { reason: "the driver's sine of 3.4e38 is 1", cases: ["sin f32", "cos f32"] },
  {
    reason: "devices may assume that there are no NaN and infinities, of which integers are made here",
    cases: [
      "groupScales of i8, values that are no numbers and zeros",
      "quantizeGroups to i8, values and scales that are no numbers and zeros",
      ...["i8", "u8", "i4", "u4"].map((dtype) => `cast f32 to ${dtype}`),
    ],
  },
];

describe.skipIf(!hasGpu)("with a driver", () => {
  const open = () => prepareDevice("tfjs-webgpu", { gpu });
  runBackendTests({ backend: "tfjs-webgpu", open, skip, finiteOnly: true, flushes: true });
  testGolden("tfjs-webgpu", "v3"); // latent attention with experts: the most ops
});
