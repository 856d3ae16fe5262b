/** Random tiny models of every family: the tensor IR in the interpreter against the reference in plain loops. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseModule } from "../../src/ir/parse.ts";
import { printModule } from "../../src/ir/print.ts";
import { verifyModule } from "../../src/ir/verify.ts";
import { parseModelConfig } from "../../src/models/deepseek/config.ts";
import { buildModel } from "../../src/models/deepseek/model.ts";
import { referenceLogits } from "../../src/models/deepseek/reference.ts";
import { publishedWith } from "./published-configs.ts";
import { weightsFrom } from "./read-golden.ts";
import { interpretedModel, joined, largestDifference } from "./step.ts";
import { randomWeights, tinyConfig } from "./tiny-models.ts";

/** Relative to the largest value, or absolute below 1. f32 against double; 9.4e-6 is the largest of 300 random models. */
const tolerance = 3e-5;

const { quantization_config } = publishedWith("DeepSeek-V3");
const config = fc
  .tuple(tinyConfig, fc.boolean())
  .map(([json, fp8]) => parseModelConfig(fp8 ? { ...json, quantization_config } : json));

test("logits and hidden states are the reference's", () => {
  const ids = fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 2, maxLength: 6 });
  fc.assert(
    fc.property(config, ids, fc.nat(), (config, tokens, seed) => {
      const tensors = randomWeights(config, seed);
      const expected = referenceLogits(config, weightsFrom(tensors), tokens);
      const model = interpretedModel(config, tensors, { blockSize: 2, total: 4, blocks: 3 });
      const { logits, hidden } = model.step([{ ids: tokens, start: 0, table: [2, 0, 3] }]);
      [joined(logits), ...hidden].forEach((found, i) => {
        const wanted = i === 0 ? expected.logits : expected.hidden[i - 1]!;
        const scale = wanted.reduce((most, x) => Math.max(most, Math.abs(x)), 1);
        expect(largestDifference(found, wanted) / scale).toBeLessThan(tolerance);
      });
    }),
    { numRuns: 150, seed: 11 },
  );
});

test("modules verify and their text is read back", () => {
  const size = fc.integer({ min: 1, max: 3 });
  fc.assert(
    fc.property(config, size, size, size, size, (config, sequences, more, blocks, blockSize) => {
      const tokens = sequences + more;
      const bucket = { tokens, sequences, blocks, outputs: more, blockSize, slots: 4 * blockSize, ropeRows: 9 };
      const module = buildModel(config, bucket);
      verifyModule(module);
      const text = printModule(module);
      expect(printModule(parseModule(text))).toBe(text);
    }),
    { numRuns: 50, seed: 12 },
  );
});
