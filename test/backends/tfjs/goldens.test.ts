/** The models on TensorFlow.js, op by op, against what Hugging Face transformers computes. */
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { QuantizeOptions } from "../../../src/compile.ts";
import { loadModel } from "../../../src/runtime/load-model.ts";
import { testGolden } from "../../models/golden-runs.ts";
import { goldenNames } from "../../models/read-golden.ts";

const engines = ["tfjs-cpu", "tfjs-wasm"] as const;
for (const backend of engines) for (const name of goldenNames) testGolden(backend, name);

/** Tokens of a greedy continuation. */
async function continued(folder: string, backend: string, prompt: readonly number[], quantize?: QuantizeOptions) {
  const model = await loadModel(fileURLToPath(new URL(`../../../${folder}`, import.meta.url)), {
    backend,
    contextLength: 64,
    quantize,
  });
  const { result } = await model.generate(prompt, { temperature: 0, maxTokens: 16, ignoreEos: true }).collect();
  await model.close();
  return [...result.tokens];
}

it.each(engines)("the demo model goes on on %s as on plain JavaScript", async (backend) => {
  const prompt = [1, 20, 30, 40, 50];
  const expected = await continued("models/tiny-deepseek", "js", prompt);
  expect(await continued("models/tiny-deepseek", backend, prompt)).toEqual(expected);
});

const formats: readonly QuantizeOptions[] = [
  { weights: "int8", activations: "int8" },
  { weights: "int4" },
  { weights: "int4-affine" },
];

// Experts are chosen among codes; tied embeddings are rows and columns of the same codes. Rounded inputs amplify the last
// bit of a sum where a code is a tie, which no token of these meets (one of v3 does).
describe.each(["v3-plain", "qwen2-tied"])("%s", (name) => {
  it.each(formats)("quantised as %o goes on as on plain JavaScript", async (quantize) => {
    const folder = `test/fixtures/goldens/${name}`;
    const prompt = [1, 5, 9, 13, 17];
    const expected = await continued(folder, "js", prompt, quantize);
    for (const backend of engines) {
      expect(await continued(folder, backend, prompt, quantize), backend).toEqual(expected);
    }
  });
});
