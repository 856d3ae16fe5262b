/** TensorFlow.js's WebGPU backend on a GPU device of ours: every op, and a model. */
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { prepareDevice } from "../../../src/compile.ts";
import { loadModel } from "../../../src/runtime/load-model.ts";
import { scoreTokens } from "../../../src/runtime/quality/score.ts";
import { runBackendTests } from "../run-backend-tests.ts";
import { gpu, hasGpu } from "../webgpu/gpu.ts";
import { noUnsigned } from "./skipped.ts";

const skip = [
  noUnsigned,
  {
    reason: "its kernels read integers that broadcast as f32, which has no odd ones beyond 2^24",
    cases: ["div i32", "rem i32", "cast f32 to i32"],
  },
  {
    reason: "pow(0, 0.5) is 2^-63 and tanh(2^-120) is 0: logarithms and exponentials of the smallest normal numbers",
    cases: ["pow f32", "tanh f32"],
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

  it("gives the logits of plain JavaScript, prefilled and token by token", async () => {
    const folder = fileURLToPath(new URL("../../fixtures/goldens/v3", import.meta.url)); // latent attention with experts
    const ids = [1, 5, 3, 9];
    const logits: Float32Array[] = [];
    for (const backend of ["js", "tfjs-webgpu"]) {
      const model = await loadModel(folder, { backend, gpu, contextLength: 32 });
      logits.push(await model.logits(ids), await scoreTokens(model.runner.single(), ids, 1));
      await model.close();
    }
    const [expected, , prefilled, single] = logits;
    // The tolerance of the goldens: sums in f32 in another order.
    for (const actual of [prefilled!, single!]) {
      expect(actual.length).toBe(expected!.length);
      expect(Math.max(...actual.map((x, i) => Math.abs(x - expected![i]!)))).toBeLessThan(1e-4);
    }
  });
});
