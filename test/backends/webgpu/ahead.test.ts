/** Decoding ahead on a GPU: the device samples and feeds itself, and the ids are those of step by step. */
import { expect, test } from "vitest";
import { planTotals } from "../../../src/ir/plan.ts";
import { loadModel } from "../../../src/runtime/load-model.ts";
import { benchModel } from "../../../src/runtime/report/bench-model.ts";
import { KernelProfile, showKernelTimes, timesOfRun } from "../../../src/runtime/report/kernel-profile.ts";
import { planSampling } from "../../../src/runtime/sampling/sampler.ts";
import { checkSampling } from "../../../src/runtime/sampling/sampling-options.ts";
import type { ModelRunner } from "../../../src/runtime/steps/model-runner.ts";
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

test.skipIf(!hasGpu)("where the time of steps goes", async () => {
  const model = await loadModel(folder, { backend: "webgpu", gpu, contextLength: 64, maxSequences: 1 });
  try {
    const { ahead } = model.runner as ModelRunner; // what this backend has
    const one = Int32Array.of(0);
    const batch = { tokens: one, positions: one, sequence: one, slots: one, blockTables: [one], outputs: one };
    const rows = [{ sampling: planSampling(checkSampling({ temperature: 0 }, 8)), position: 1 }];
    const { times, plan } = (await ahead!.measure(batch, rows, 2))!;
    const launches = times.kernels.reduce((sum, each) => sum + each.launches, 0);
    expect(launches).toBe(planTotals(plan).launches);
    expect(Math.min(times.deviceMs, times.recordMs, ...times.kernels.map(({ ms }) => ms))).toBeGreaterThan(0);
    expect(showKernelTimes(timesOfRun(plan, times))).toMatch(/\d MB .*gate_up#/);
  } finally {
    await model.close();
  }
});

test.skipIf(!hasGpu).each([64, 9])(
  "a bench replays the kernels of decoding, and times those of a prompt: context %i",
  async (contextLength) => {
    const model = await loadModel(folder, { backend: "webgpu", gpu, contextLength, maxSequences: 1 });
    try {
      const sizes = { promptTokens: 5, tokens: 2, rounds: 1, warmup: 0, profile: true };
      const { profile, decode, memory } = await benchModel(model, sizes);
      expect(decode.median).toBeGreaterThan(0);
      expect(memory.device === null || memory.device > memory.weights).toBe(true);
      if (profile?.missing !== null) throw new Error(`no profile: ${profile?.missing}`);
      expect([profile.prompt.sides, profile.decode.sides?.deviceMs]).toEqual([null, expect.any(Number)]);
      expect(profile.decode.after).toBeGreaterThanOrEqual(0);
      for (const { kernels } of [profile.prompt, profile.decode])
        expect(kernels.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 12);
    } finally {
      await model.close();
    }
  },
);

test.skipIf(!hasGpu)("what a model's kernels take is measured, and that they are right is verified", async () => {
  const profile = new KernelProfile();
  const model = await loadModel(folder, { backend: "webgpu", gpu, contextLength: 64, maxSequences: 1, profile });
  try {
    await model.generate([1, 2, 3], { temperature: 0, maxTokens: 2, ignoreEos: true }).collect();
    expect(showKernelTimes(profile.times())).toMatch(/\d MB .*gate_up#/);
    const { fine, switchedOff } = await model.verify();
    expect([fine, switchedOff]).toEqual([true, []]);
    model.device!.variants!.use("packed dot products", false);
    expect(model.device!.variants!.names()).toContain("packed dot products");
  } finally {
    await model.close();
  }
});
