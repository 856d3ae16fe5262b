/** Pruned models: what is kept, that the rest is as if those left out were never chosen, and what a folder's loader does. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { tensorOf } from "../../src/ir/tensor.ts";
import { parseModelConfig } from "../../src/models/deepseek/config.ts";
import { groupsOf, leastExperts, moeLayers, originOf, prunedConfig } from "../../src/models/deepseek/pruned.ts";
import { namesOf, weightSpecs } from "../../src/models/deepseek/weights.ts";
import { chooseExperts } from "../../src/passes/prune/experts.ts";
import { prune, quantize } from "../../src/recipe.ts";
import { loadModel } from "../../src/runtime/load-model.ts";
import type { Model } from "../../src/runtime/model.ts";
import { compareWindows } from "../../src/runtime/quality/evaluate.ts";
import { parsePruning, showPruning } from "../../src/runtime/weights/pruning-file.ts";
import { publishedWith } from "./published-configs.ts";
import { interpretedModel, joined } from "./step.ts";
import { randomWeights } from "./tiny-models.ts";

const sizes = { vocab_size: 12, hidden_size: 6, num_hidden_layers: 2, first_k_dense_replace: 0, intermediate_size: 3 };
const heads = { num_attention_heads: 1, num_key_value_heads: 1, q_lora_rank: null, kv_lora_rank: 2 };
const dims = { qk_nope_head_dim: 2, qk_rope_head_dim: 2, v_head_dim: 2, max_position_embeddings: 32 };
const gate = { n_routed_experts: 12, n_group: 4, topk_group: 2, num_experts_per_tok: 3, moe_intermediate_size: 2 };
const base = { ...publishedWith("DeepSeek-V3"), quantization_config: undefined, rope_scaling: null };
const v3 = { ...base, ...sizes, ...heads, ...dims, ...gate };

/** As many experts of each group as asked for, of each layer others. */
const keptOf = (groups: number, size: number, each: number, seeds: readonly number[]) =>
  Object.fromEntries(
    seeds.map((seed, layer) => {
      const kept = Array.from({ length: groups }, (_, g) =>
        Array.from({ length: each }, (_, i) => g * size + ((seed + g + i) % size)),
      );
      return [layer, kept.flat().sort((a, b) => a - b)];
    }),
  );

describe("a pruned model", () => {
  const ids = fc.array(fc.nat({ max: 11 }), { minLength: 1, maxLength: 6 });
  const gates = fc.constantFrom({}, { n_group: 1, topk_group: 1 }, { topk_group: 4 }, { norm_topk_prob: false });

  it("computes what the whole one does whose gates can never choose the others, bit for bit", () => {
    fc.assert(
      fc.property(
        gates,
        ids,
        fc.nat(),
        fc.array(fc.nat(), { minLength: 2, maxLength: 2 }),
        (gate, tokens, seed, seeds) => {
          const config = parseModelConfig({ ...v3, ...gate });
          const [moe] = moeLayers(config).values();
          const groups = groupsOf(moe!);
          const kept = keptOf(groups, 12 / groups, Math.max(2, leastExperts(moe!) / groups), seeds);
          const whole = randomWeights(config, seed);
          const pruned = prunedConfig(config, kept);
          const own = new Map(
            weightSpecs(pruned).flatMap((spec) =>
              [...namesOf(spec)].map((name) => {
                const { name: original, rows } = originOf(name, kept);
                const found = whole.get(original)!;
                if (rows === null) return [name, found] as const;
                const width = found.data.length / 12;
                const values = rows.flatMap((row) => [...found.data.subarray(row * width, (row + 1) * width)]);
                return [name, tensorOf("f32", found.type.shape.with(0, rows.length), values)] as const;
              }),
            ),
          );
          const blocked = new Map(whole);
          for (const [layer, experts] of Object.entries(kept)) {
            const name = `model.layers.${layer}.mlp.gate.e_score_correction_bias`;
            const bias = [...whole.get(name)!.data].map((value, e) => (experts.includes(e) ? value : -1e30));
            blocked.set(name, tensorOf("f32", [12], bias));
          }
          const cache = { blockSize: 8, total: 1, blocks: 1 };
          const run = (model: ReturnType<typeof interpretedModel>) =>
            joined(model.step([{ ids: tokens, start: 0, table: [0] }]).logits);
          const found = run(interpretedModel(pruned, own, cache));
          expect(found).toEqual(run(interpretedModel(config, blocked, cache)));
        },
      ),
      { numRuns: 60 },
    );
  });

  it.each([
    [{ 0: [0, 1, 3, 4, 6, 7, 9, 10] }, /prune experts 1: missing/],
    [{ 0: [0, 1, 3, 4, 6, 7, 9, 10], 1: [0, 1, 3, 4, 6, 7, 9, 10], 7: [0] }, /experts 7: this layer has no/],
    [{ 0: [0, 1, 3, 4, 6, 7, 9, 12], 1: [] }, /experts 0: expected numbers of experts below 12, got 12/],
    [{ 0: [0, 1, 2, 3, 4, 5, 6, 7], 1: [] }, /expected as many of each of 4 groups, got 3, 3, 2, 0/],
    [{ 0: [0, 3, 6, 9], 1: [] }, /expected at least 8 experts, got 4/],
  ])("of %o is refused", (kept, message) => {
    expect(() => prunedConfig(parseModelConfig(v3), kept)).toThrow(message);
  });
});

describe("the choice of experts", () => {
  const use = (...weight: number[][]) => ({
    tokens: 9,
    layers: Object.fromEntries(weight.map((each, i) => [i + 1, { chosen: each, weight: each }])),
  });
  const free = { groups: 1, least: 2 };

  it("keeps those of most weight, as many in each layer", () => {
    const { experts, share } = chooseExperts(use([1, 5, 3, 1], [4, 0, 0, 4]), { count: 2 }, free);
    expect(experts).toEqual({ 1: [1, 2], 2: [0, 3] });
    expect(share).toEqual({ 1: 0.8, 2: 1 });
  });

  it("keeps as many of each group", () => {
    const { experts } = chooseExperts(use([9, 8, 7, 1, 2, 3]), { count: 2 }, { groups: 2, least: 2 });
    expect(experts).toEqual({ 1: [0, 5] });
    expect(() => chooseExperts(use([1, 1, 1, 1]), { count: 3 }, { groups: 2, least: 2 })).toThrow(/multiple of 2/);
  });

  it("leaves out what is below a threshold in every layer, and no more", () => {
    const { experts } = chooseExperts(use([0.6, 0.3, 0.05, 0.05], [0.4, 0.4, 0.15, 0.05]), { threshold: 0.1 }, free);
    expect(experts).toEqual({ 1: [0, 1, 2], 2: [0, 1, 2] });
  });

  it("does not take everything", () => {
    expect(chooseExperts(use([1, 1, 1, 1]), { threshold: 0.9 }, free).experts).toEqual({ 1: [0, 1] });
    for (const wish of [{ count: 1 }, { count: 5 }, { count: 1.5 }, { threshold: 2 }, { threshold: Number.NaN }]) {
      expect(() => chooseExperts(use([1, 1, 1, 1]), wish, free)).toThrow(/prune/);
    }
  });
});

describe("tiny-deepseek", () => {
  const folder = "models/tiny-deepseek";
  const ids = Array.from({ length: 96 }, (_, i) => (i * 37) % 4000);
  const models: Model[] = [];
  const load = async (...args: Parameters<typeof loadModel>) => {
    const model = await loadModel(args[0], { contextLength: 128, threads: 1, ...args[1] });
    models.push(model);
    return model;
  };
  afterAll(async () => {
    for (const model of models) await model.close();
  });

  it("is calibrated, pruned, stored, quantised, and says so", async () => {
    const whole = await load(folder);
    const pruning = await whole.chooseExperts({ count: 12 }, [ids]);
    expect(pruning.tokens).toBe(96);
    for (const share of Object.values(pruning.share)) expect(share).toBeGreaterThan(12 / 16);
    const stored = parsePruning(showPruning(pruning));
    expect(stored.experts).toEqual(pruning.experts);

    const pruned = await load(prune(folder, stored));
    expect(pruned.lossy).toEqual(["12 routed experts kept in each of 5 layers"]);
    // 5 layers with 4 experts less, each of three matrices of 96 x 256, held as bf16; and the rows of the gates, with a bias in f32.
    expect(whole.memory.weights - pruned.memory.weights).toBe(5 * 4 * ((3 * 96 * 256 + 256) * 2 + 4));
    const interpreted = await load(folder, { backend: "interpreter", prune: stored });
    const short = ids.slice(0, 4);
    const { kl, top1 } = await compareWindows(interpreted, pruned, [short]);
    // The same weights in f32; rounding alone differs.
    expect([kl < 1e-6, top1]).toEqual([true, 1]);

    const both = await load(quantize(prune(folder, { ...stored, sparsity: "3:4" }), "int8"));
    expect(both.lossy).toEqual([
      "12 routed experts kept in each of 5 layers",
      "3 of each 4 weights in a row kept, the largest",
      "weights rounded to int8",
    ]);
    expect(both.memory.weights).toBeLessThan(0.6 * pruned.memory.weights);
  }, 60_000);

  it("and a model without experts has none to leave out", () => {
    const dense = parseModelConfig(publishedWith("R1-Distill-Qwen-1.5B"));
    expect(() => prunedConfig(dense, { 0: [0] })).toThrow(/this layer has no routed experts/);
  });
});

describe("hostile files", () => {
  it.each([
    ["", /JSON|end of/],
    ["[]", /expected an object/],
    ["{}", /pruning.json format: expected "ciuic pruning 1"/],
    ['{"format":"ciuic pruning 1"}', /experts: expected an object/],
    ['{"format":"ciuic pruning 1","experts":{}}', /at least one layer/],
    ['{"format":"ciuic pruning 1","experts":{"1":[2,1]}}', /ascending/],
    ['{"format":"ciuic pruning 1","experts":{"1":[1,1]}}', /ascending/],
    ['{"format":"ciuic pruning 1","experts":{"1":["0"]}}', /ascending/],
    ['{"format":"ciuic pruning 1","experts":{"1":[0.5]}}', /ascending/],
    ['{"format":"ciuic pruning 1","experts":{"__proto__":[1]}}', /expected numbers of layers/],
    ['{"format":"ciuic pruning 1","experts":{"1":[1],"2":[1,2]}}', /expected 1 as in layer 1/],
  ])("%s", (text, message) => {
    expect(() => parsePruning(text)).toThrow(message);
  });
});
