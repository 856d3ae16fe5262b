/** Decoding ahead on a GPU: the device samples and feeds itself, and the ids are those of step by step. */
import { expect, test } from "vitest";
import { KernelProfile } from "../../../src/runtime/kernel-profile.ts";
import { loadModel } from "../../../src/runtime/load-model.ts";
import { gpu, hasGpu } from "./gpu.ts";

const folder = new URL("../../fixtures/goldens/qwen2-tied", import.meta.url).pathname;

test.skipIf(!hasGpu)("greedy and drawn tokens, alone and together", async () => {
  const run = async (stepsAhead: number) => {
    const model = await loadModel(folder, { backend: "webgpu", gpu, contextLength: 64, maxSequences: 2, stepsAhead });
    try {
      const options = { maxTokens: 12, ignoreEos: true };
      const greedy = await model.generate([1, 2, 3], { ...options, temperature: 0 }).collect();
      const together = await Promise.all([
        model.generate([5, 6], { ...options, temperature: 0.7, topP: 0.9, seed: 4 }).collect(),
        model.generate([7, 8, 9], { ...options, temperature: 0, maxTokens: 7, frequencyPenalty: 0.4 }).collect(),
      ]);
      return [greedy, ...together].map(({ result }) => result.tokens);
    } finally {
      await model.close();
    }
  };
  expect(await run(4)).toEqual(await run(0));
});

test.skipIf(!hasGpu)("what a model's kernels take is measured, and that they are right is verified", async () => {
  const profile = new KernelProfile();
  const model = await loadModel(folder, { backend: "webgpu", gpu, contextLength: 64, maxSequences: 1, profile });
  try {
    await model.generate([1, 2, 3], { temperature: 0, maxTokens: 2, ignoreEos: true }).collect();
    expect(profile.show()).toMatch(/\d x .* gate_up#/);
    const { fine, switchedOff } = await model.verify();
    expect([fine, switchedOff]).toEqual([true, []]);
    model.device!.variants!.use("packed dot products", false);
    expect(model.device!.variants!.names()).toContain("packed dot products");
  } finally {
    await model.close();
  }
});
