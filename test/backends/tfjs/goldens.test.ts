/** The models on TensorFlow.js, op by op, against what Hugging Face transformers computes. */
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import type { QuantizeOptions } from "../../../src/compile.ts";
import { loadModel } from "../../../src/runtime/load-model.ts";
import { testGolden } from "../../models/golden-runs.ts";
import { goldenNames } from "../../models/read-golden.ts";

const engines = ["tfjs-cpu", "tfjs-wasm"] as const;
for (const backend of engines) for (const name of goldenNames) testGolden(backend, name);

const formats: readonly (QuantizeOptions | undefined)[] = [
  undefined,
  { weights: "int8", activations: "int8" },
  { weights: "int4" },
  { weights: "int4-affine" },
];

it.each(formats)("the demo model gives the tokens of plain JavaScript, weights as in %o", async (quantize) => {
  const folder = fileURLToPath(new URL("../../../models/tiny-deepseek", import.meta.url));
  const answer = async (backend: string) => {
    const model = await loadModel(folder, { backend, contextLength: 128, quantize });
    const { result } = await model
      .chat([{ role: "user", content: "What is 27 + 15?" }], { temperature: 0, maxTokens: 16 })
      .collect();
    await model.close();
    return [...result.tokens];
  };
  const expected = await answer("js");
  expect(expected.length).toBeGreaterThan(8);
  for (const backend of engines) expect(await answer(backend), backend).toEqual(expected);
});
