/** Properties of the reference on random tiny models of every family. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { InputError } from "../../src/ir/errors.ts";
import { type Tensor, tensorOf, valuesOf } from "../../src/ir/tensor.ts";
import { checkWeights } from "../../src/models/deepseek/check-weights.ts";
import { parseModelConfig } from "../../src/models/deepseek/config.ts";
import { referenceLogits } from "../../src/models/deepseek/reference.ts";
import { readWeight } from "../../src/models/deepseek/reference-math.ts";
import { publishedWith } from "./published-configs.ts";
import { weightsFrom } from "./read-golden.ts";
import { randomWeights, tinyConfig } from "./tiny-models.ts";

const ids = fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 2, maxLength: 6 });
const run = { numRuns: 200, seed: 7 };

test("logits are finite and those of a prefix do not depend on what follows", () => {
  fc.assert(
    fc.property(tinyConfig, ids, fc.nat(), (json, tokens, seed) => {
      const config = parseModelConfig(json);
      const tensors = randomWeights(config, seed);
      expect(checkWeights(config, new Map(Array.from(tensors, ([name, t]) => [name, t.type]))).unexpected).toEqual([]);
      const weight = weightsFrom(tensors);
      const whole = referenceLogits(config, weight, tokens);
      expect(whole.logits.length).toBe(tokens.length * config.vocab_size);
      expect(whole.logits.every(Number.isFinite)).toBe(true);
      const prefix = referenceLogits(config, weight, tokens.slice(0, -1));
      // The same sums in the same order, so equal bit for bit.
      expect(prefix.logits).toEqual(whole.logits.subarray(0, prefix.logits.length));
    }),
    run,
  );
});

test("renumbering the vocabulary renumbers the logits", () => {
  fc.assert(
    fc.property(tinyConfig, ids, fc.nat(), (json, tokens, seed) => {
      const config = parseModelConfig(json);
      const v = config.vocab_size;
      const tensors = randomWeights(config, seed);
      const reversed = new Map(tensors);
      for (const name of ["model.embed_tokens.weight", "lm_head.weight"]) {
        const tensor = tensors.get(name);
        if (tensor !== undefined) reversed.set(name, reverseRows(tensor));
      }
      const plain = referenceLogits(config, weightsFrom(tensors), tokens).logits;
      const flipped = referenceLogits(
        config,
        weightsFrom(reversed),
        tokens.map((id) => v - 1 - id),
      ).logits;
      tokens.forEach((_, t) => {
        expect(flipped.slice(t * v, (t + 1) * v).reverse()).toEqual(plain.slice(t * v, (t + 1) * v));
      });
    }),
    { ...run, numRuns: 50 },
  );
});

function reverseRows(tensor: Tensor): Tensor {
  const [rows, columns] = [tensor.type.shape[0]!, tensor.type.shape[1]!];
  const values = valuesOf(tensor);
  const flipped = values.map((_, i) => values[(rows - 1 - Math.floor(i / columns)) * columns + (i % columns)]!);
  return tensorOf(tensor.type.dtype, tensor.type.shape, flipped);
}

test("FP8 blocks are scaled one by one, cut-off ones included", () => {
  const scales = tensorOf("f32", [2, 3], [1, 2, 4, 8, 16, 32]);
  const ones = tensorOf("f8e4m3", [3, 5], new Array(15).fill(1));
  const weight = weightsFrom(
    new Map([
      ["w", ones],
      ["w_scale_inv", scales],
    ]),
  );
  const rows = [1, 1, 2, 2, 4, 1, 1, 2, 2, 4, 8, 8, 16, 16, 32];
  expect(Array.from(readWeight({ weight, block: [2, 2] }, "w"))).toEqual(rows);
  expect(() => readWeight({ weight, block: null }, "w")).toThrow(InputError);
});

test("a quantised tiny model runs", () => {
  const { quantization_config } = publishedWith("DeepSeek-V3");
  const json = fc.sample(tinyConfig, { numRuns: 20, seed: 1 }).map((base) => ({ ...base, quantization_config }));
  for (const config of json.map((base) => parseModelConfig(base))) {
    const { logits } = referenceLogits(config, weightsFrom(randomWeights(config, 3)), [0, 1, 2]);
    expect(logits.every(Number.isFinite)).toBe(true);
  }
});

test("ids outside the vocabulary are refused", () => {
  const config = parseModelConfig(fc.sample(tinyConfig, { numRuns: 1, seed: 1 })[0]);
  const weight = weightsFrom(randomWeights(config, 1));
  for (const id of [-1, config.vocab_size, 0.5, Number.NaN]) {
    expect(() => referenceLogits(config, weight, [0, id])).toThrow(/token 1: expected an id in 0\.\./);
  }
});
