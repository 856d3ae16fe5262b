/** Quantised models on WebGPU against the same programs on plain JavaScript. */
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { QuantizeOptions } from "../../../src/compile.ts";
import { loadModel } from "../../../src/runtime/load-model.ts";
import { scoreTokens } from "../../../src/runtime/quality/score.ts";
import { type goldenNames, goldenTensors } from "../../models/read-golden.ts";
import { hasGpu } from "./gpu.ts";

type Golden = (typeof goldenNames)[number];

/** Inputs stay f32: only the order of additions differs. */
const sameInputs = 1e-4;
/** An input on the border of two codes may fall to either side, here by 1/127 of a group's largest value; 0.04 was seen, and a wrong scale gives more than 1. */
const roundedInputs = 0.1;

/** Grouped queries with biases, and latent attention with experts. */
const cases: readonly (readonly [Golden, QuantizeOptions, number])[] = [
  ["qwen2-distill", { weights: "int8" }, sameInputs],
  ["qwen2-distill", { weights: "int4", activations: "int8" }, roundedInputs],
  ["v2-lite", { weights: "int4" }, sameInputs],
  ["v2-lite", { weights: "int8", activations: "int8" }, roundedInputs],
];

async function logitsOf(name: Golden, backend: string, quantize: QuantizeOptions) {
  const ids = [...goldenTensors(name, "golden").get("input_ids")!.data].slice(0, 24);
  const folder = fileURLToPath(new URL(`../../fixtures/goldens/${name}`, import.meta.url));
  const model = await loadModel(folder, { backend, contextLength: 64, quantize });
  try {
    return { whole: await model.logits(ids), steps: await scoreTokens(model.runner.single(), ids, 1) };
  } finally {
    await model.close();
  }
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);
}

describe.skipIf(!hasGpu)("with a driver", () => {
  it.each(cases)("%s with %o gives the logits of plain JavaScript", async (name, quantize, most) => {
    const [gpu, js] = [await logitsOf(name, "webgpu", quantize), await logitsOf(name, "js", quantize)];
    expect(largestDifference(gpu.whole, js.whole)).toBeLessThan(most);
    expect(largestDifference(gpu.steps, js.steps)).toBeLessThan(most);
  });
});
