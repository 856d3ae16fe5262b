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

test("gates with groups choose and weigh the reference's experts", () => {
  const base = { ...publishedWith("DeepSeek-V3"), quantization_config: undefined, rope_scaling: null };
  const tiny = { vocab_size: 30, hidden_size: 6, num_hidden_layers: 1, first_k_dense_replace: 0, intermediate_size: 1 };
  const heads = { num_attention_heads: 1, num_key_value_heads: 1, q_lora_rank: null, kv_lora_rank: 1 };
  const dims = { qk_nope_head_dim: 1, qk_rope_head_dim: 2, v_head_dim: 1, max_position_embeddings: 32 };
  const gate = { n_routed_experts: 12, n_group: 4, topk_group: 2, num_experts_per_tok: 3, moe_intermediate_size: 2 };
  const v3 = { ...base, ...tiny, ...heads, ...dims, ...gate };
  const v2 = { model_type: "deepseek_v2", topk_method: "group_limited_greedy", scoring_func: "softmax" };
  const ids = Array.from({ length: tiny.vocab_size }, (_, i) => i);
  for (const [seed, changes] of [{}, { topk_group: 1 }, { norm_topk_prob: false }, v2].entries()) {
    const config = parseModelConfig({ ...v3, ...changes });
    const tensors = randomWeights(config, seed);
    const expected = referenceLogits(config, weightsFrom(tensors), ids);
    const model = interpretedModel(config, tensors, { blockSize: 30, total: 1, blocks: 1 });
    const { logits } = model.step([{ ids, start: 0, table: [0] }]);
    // The same tolerance: a wrong expert or weight changes logits by far more.
    expect(largestDifference(joined(logits), expected.logits)).toBeLessThan(tolerance);
  }
});

/** Tokens of one sequence, and how many of them each step takes. */
const sequence = fc.record({
  ids: fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 6 }),
  chunks: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 4 }),
});

test("any split of any sequences over steps gives the logits of each sequence alone", () => {
  const blocks = fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], { minLength: 9, maxLength: 9 });
  fc.assert(
    fc.property(
      config,
      fc.array(sequence, { minLength: 1, maxLength: 3 }),
      blocks,
      fc.nat(),
      fc.nat(2),
      (config, sequences, blocks, seed, padding) => {
        const tensors = randomWeights(config, seed);
        const model = () => interpretedModel(config, tensors, { blockSize: 2, total: 10, blocks: 3 });
        const batched = model();
        const found = sequences.map((): Float32Array[] => []);
        for (let step = 0; found.some((rows, i) => rows.length < sequences[i]!.ids.length); step++) {
          const active = sequences.flatMap(({ ids, chunks }, i) => {
            const start = found[i]!.length;
            // Every fifth step lets each sequence go on, so that chunks of 0 come to an end.
            const count = step % 5 === 4 ? 2 : chunks[step % chunks.length]!;
            const chunk = { ids: ids.slice(start, start + count), start, table: blocks.slice(3 * i, 3 * i + 3) };
            return chunk.ids.length === 0 ? [] : [{ i, chunk }];
          });
          if (active.length === 0) continue;
          const { logits } = batched.step(
            active.map(({ chunk }) => chunk),
            padding,
          );
          const owners = active.flatMap(({ i, chunk }) => chunk.ids.map(() => i));
          for (const [row, i] of owners.entries()) found[i]!.push(logits[row]!);
        }
        sequences.forEach(({ ids }, i) => {
          const alone = model().step([{ ids, start: 0, table: [0, 1, 2] }]);
          expect(joined(found[i]!)).toEqual(joined(alone.logits)); // same sums in the same order
        });
      },
    ),
    { numRuns: 60, seed: 13 },
  );
});

test("logits are those of the tokens asked for, in the order asked", () => {
  const json = fc.sample(tinyConfig, { numRuns: 1, seed: 3 })[0];
  const config = parseModelConfig(json);
  const sizes = { blockSize: 4, total: 1, blocks: 1 };
  const chunk = { ids: [0, 1, 2, 1], start: 0, table: [0] };
  const tensors = randomWeights(config, 5);
  const all = interpretedModel(config, tensors, sizes).step([chunk]).logits;
  const some = interpretedModel(config, tensors, sizes).step([chunk], 0, [3, 1, 1]).logits;
  expect(some).toEqual([all[3], all[1], all[1]]);
});

test("a last layer of the tokens asked for alone gives their logits and the caches of all", () => {
  const ids = fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 3, maxLength: 6 });
  const picks = fc.array(fc.nat(), { minLength: 1, maxLength: 2 });
  const padding = fc.nat(1);
  fc.assert(
    fc.property(config, ids, picks, padding, fc.nat(), (config, ids, picks, padding, seed) => {
      const tensors = randomWeights(config, seed);
      const outputs = picks.map((pick) => pick % ids.length);
      const [whole, cut] = [false, true].map((lastRows) => {
        const model = interpretedModel(config, tensors, { blockSize: 2, total: 4, blocks: 3 }, undefined, { lastRows });
        const { logits } = model.step([{ ids, start: 0, table: [2, 0, 3] }], padding, outputs);
        return { logits, caches: model.caches() };
      });
      expect(cut).toEqual(whole); // the same sums in the same order
    }),
    { numRuns: 100, seed: 14 },
  );
});

test("modules verify and their text is read back", () => {
  const size = fc.integer({ min: 1, max: 3 });
  fc.assert(
    fc.property(
      config,
      size,
      size,
      size,
      size,
      fc.boolean(),
      (config, sequences, more, blocks, blockSize, lastRows) => {
        const tokens = sequences + more;
        const bucket = { tokens, sequences, blocks, outputs: more, blockSize, slots: 4 * blockSize, ropeRows: 9 };
        const module = buildModel(config, bucket, { lastRows });
        verifyModule(module);
        const text = printModule(module);
        expect(printModule(parseModule(text))).toBe(text);
      },
    ),
    { numRuns: 50, seed: 12 },
  );
});
