/** Random tiny models of every family: an arbitrary of `config.json` contents, and seeded random weights for a config. */
import fc from "fast-check";
import { type Tensor, tensorOf } from "../../src/ir/tensor.ts";
import { sizeOf } from "../../src/ir/types.ts";
import type { ModelConfig } from "../../src/models/deepseek/config.ts";
import { namesOf, scaleShape, scaleSuffix, weightSpecs } from "../../src/models/deepseek/weights.ts";
import type { Json } from "./published-configs.ts";

const ropeScaling: fc.Arbitrary<Json | null> = fc.constantFrom<Json | null>(
  null,
  { type: "linear", factor: 4 },
  { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 32 },
  { type: "yarn", factor: 4, original_max_position_embeddings: 32 },
  { type: "yarn", factor: 4, original_max_position_embeddings: 32, mscale: 1, mscale_all_dim: 0.8 },
);

const common = {
  vocab_size: fc.integer({ min: 3, max: 20 }),
  hidden_size: fc.integer({ min: 1, max: 16 }),
  intermediate_size: fc.integer({ min: 1, max: 12 }),
  num_hidden_layers: fc.integer({ min: 1, max: 3 }),
  max_position_embeddings: fc.constant(128),
  rope_scaling: ropeScaling,
  rope_theta: fc.constantFrom(100, 10000),
  tie_word_embeddings: fc.boolean(),
};

/** Sizes that must divide each other are drawn as factors. */
const gqa = fc
  .record({
    kv: fc.integer({ min: 1, max: 3 }),
    group: fc.integer({ min: 1, max: 3 }),
    half: fc.integer({ min: 1, max: 4 }),
  })
  .map(({ kv, group, half }): Json => {
    return { num_attention_heads: kv * group, num_key_value_heads: kv, head_dim: 2 * half };
  });

const mla: fc.Arbitrary<Json> = fc.record({
  num_attention_heads: fc.integer({ min: 1, max: 4 }),
  q_lora_rank: fc.option(fc.integer({ min: 1, max: 6 })),
  kv_lora_rank: fc.integer({ min: 1, max: 6 }),
  qk_nope_head_dim: fc.integer({ min: 1, max: 6 }),
  qk_rope_head_dim: fc.constantFrom(2, 4, 8),
  v_head_dim: fc.integer({ min: 1, max: 6 }),
});

const moe = fc
  .record({
    n_group: fc.integer({ min: 1, max: 3 }),
    groupSize: fc.integer({ min: 2, max: 3 }),
    kept: fc.nat(),
    top: fc.nat(),
    moe_intermediate_size: fc.integer({ min: 1, max: 6 }),
    n_shared_experts: fc.integer({ min: 0, max: 2 }),
    norm_topk_prob: fc.boolean(),
    routed_scaling_factor: fc.constantFrom(1, 2.5),
    dense: fc.integer({ min: 0, max: 1 }),
  })
  .map(({ n_group, groupSize, kept, top, dense, ...rest }): Json => {
    const topk_group = 1 + (kept % n_group);
    const num_experts_per_tok = 1 + (top % (topk_group * groupSize));
    const n_routed_experts = n_group * groupSize;
    return { ...rest, n_group, topk_group, n_routed_experts, num_experts_per_tok, first_k_dense_replace: dense };
  });

function family(model_type: string, ...parts: readonly fc.Arbitrary<Json>[]): fc.Arbitrary<Json> {
  return fc.tuple(fc.record(common), ...parts).map((records) => Object.assign({ model_type }, ...records));
}

function method(...names: readonly string[]): fc.Arbitrary<Json> {
  return fc.record({ topk_method: fc.constantFrom(...names) });
}

/** The contents of a valid `config.json` of any supported family, small enough for plain loops. */
export const tinyConfig: fc.Arbitrary<Json> = fc.oneof(
  family("llama", gqa, fc.record({ attention_bias: fc.boolean() })),
  family("qwen2", gqa),
  family("qwen3", gqa, fc.record({ attention_bias: fc.boolean() })),
  family("deepseek", gqa, moe),
  family("deepseek_v2", mla, moe, method("greedy", "group_limited_greedy")),
  family("deepseek_v3", mla, moe, method("noaux_tc"), fc.record({ rope_interleave: fc.boolean() })),
);

/** Numbers in [-1, 1) that depend only on the seed. */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state ^ (state >>> 15)) * 2) / 2 ** 32 - 1;
  };
}

/**
 * Weights by checkpoint name: norms around 1, matrices scaled so that activations keep their size. A quantised config
 * gets FP8 matrices with scales of about 1.
 */
export function randomWeights(config: ModelConfig, seed: number): Map<string, Tensor> {
  const next = randomNumbers(seed);
  const tensors = new Map<string, Tensor>();
  for (const spec of weightSpecs(config)) {
    const isNorm = spec.name.endsWith("norm.weight");
    const scale = Math.sqrt(3 / (spec.shape[1] ?? 3)); // uniform in [-1, 1) has variance 1/3
    for (const name of namesOf(spec)) {
      const values = Array.from({ length: sizeOf(spec.shape) }, () => (isNorm ? 1 + next() / 4 : next() * scale));
      tensors.set(name, tensorOf(spec.quantized ? "f8e4m3" : "f32", spec.shape, values));
      if (!spec.quantized || config.quantization === null) continue;
      const blocks = scaleShape(spec.shape, config.quantization.weight_block_size);
      const scales = Array.from({ length: sizeOf(blocks) }, () => 1 + next() / 2);
      tensors.set(name + scaleSuffix, tensorOf("f32", blocks, scales));
    }
  }
  return tensors;
}
