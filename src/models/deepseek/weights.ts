/**
 * The weights a config needs, by checkpoint name and shape. Layers are described once with `{layer}` in the name and
 * experts with `{expert}`, so the list has some twenty entries however deep the model is.
 */
import type { Shape, TensorType } from "../../ir/types.ts";
import type { Attention } from "./attention-config.ts";
import type { ModelConfig } from "./config.ts";
import type { FeedForward, MoeFeedForward } from "./feed-forward-config.ts";

export interface WeightSpec {
  /** Checkpoint name, e.g. `model.layers.{layer}.mlp.experts.{expert}.gate_proj.weight`. */
  readonly name: string;
  readonly shape: Shape;
  /** Layers that have it; null when the name has no `{layer}`. */
  readonly layers: readonly number[] | null;
  /** Number of experts; null when the name has no `{expert}`. */
  readonly experts: number | null;
  /** Whether the checkpoint may store it as FP8 blocks, its scales under the same name with `_scale_inv` added. */
  readonly quantized: boolean;
}

/** What a checkpoint says about its tensors, without their data. */
export type CheckpointHeaders = ReadonlyMap<string, TensorType>;

export const scaleSuffix = "_scale_inv";

/** The names and shapes that `config` needs, in the order the model uses them. */
export function weightSpecs(config: ModelConfig): readonly WeightSpec[] {
  const { hidden_size, vocab_size } = config;
  const allLayers = config.feed_forward.map((_, i) => i);
  const specs: WeightSpec[] = [];
  const whole = (name: string, shape: Shape) =>
    specs.push({ name, shape, layers: null, experts: null, quantized: false });
  const perLayer = (layers: readonly number[], parts: readonly Part[]) => {
    for (const { name, shape, linear = false, experts = null } of layers.length === 0 ? [] : parts) {
      const quantized = linear && config.quantization !== null;
      specs.push({ name: `model.layers.{layer}.${name}`, shape, layers, experts, quantized });
    }
  };
  whole("model.embed_tokens.weight", [vocab_size, hidden_size]);
  perLayer(allLayers, [{ name: "input_layernorm.weight", shape: [hidden_size] }]);
  perLayer(allLayers, attentionParts(config.attention, hidden_size));
  perLayer(allLayers, [{ name: "post_attention_layernorm.weight", shape: [hidden_size] }]);
  for (const feedForward of new Set(config.feed_forward)) {
    const layers = allLayers.filter((i) => config.feed_forward[i] === feedForward);
    perLayer(layers, feedForwardParts(feedForward, hidden_size));
  }
  whole("model.norm.weight", [hidden_size]);
  if (!config.tie_word_embeddings) whole("lm_head.weight", [vocab_size, hidden_size]);
  return specs;
}

/** The checkpoint name of one weight. */
export function weightName(pattern: string, layer?: number, expert?: number): string {
  return pattern.replace("{layer}", String(layer)).replace("{expert}", String(expert));
}

/** How many tensors of the checkpoint a spec stands for: as many as `namesOf` names. */
export function countOf({ layers, experts }: WeightSpec): number {
  return (layers?.length ?? 1) * (experts ?? 1);
}

/** Every checkpoint name of a spec, layer by layer. */
export function* namesOf(spec: WeightSpec): Generator<string> {
  for (const layer of spec.layers ?? [undefined]) {
    for (let expert = 0; expert < (spec.experts ?? 1); expert++) yield weightName(spec.name, layer, expert);
  }
}

/** The shape of the scales of a weight: one per block, cut-off blocks included. */
export function scaleShape(shape: Shape, block: readonly [number, number]): Shape {
  return [Math.ceil(shape[0]! / block[0]), Math.ceil(shape[1]! / block[1])];
}

interface Part {
  readonly name: string;
  readonly shape: Shape;
  /** A matrix of a linear layer, the kind FP8 checkpoints quantise. Shapes are [out, in]. */
  readonly linear?: boolean;
  readonly experts?: number;
}

function linear(name: string, out: number, into: number): Part {
  return { name: `${name}.weight`, shape: [out, into], linear: true };
}

function attentionParts(attention: Attention, hidden: number): readonly Part[] {
  const h = attention.num_attention_heads;
  if (attention.kind === "gqa") {
    const { num_key_value_heads, head_dim, qkv_bias, o_bias, qk_norm } = attention;
    const [qSize, kvSize] = [h * head_dim, num_key_value_heads * head_dim];
    const bias = (name: string, size: number): Part => ({ name: `self_attn.${name}_proj.bias`, shape: [size] });
    const norm = (name: string): Part => ({ name: `self_attn.${name}_norm.weight`, shape: [head_dim] });
    return [
      linear("self_attn.q_proj", qSize, hidden),
      linear("self_attn.k_proj", kvSize, hidden),
      linear("self_attn.v_proj", kvSize, hidden),
      ...(qkv_bias ? [bias("q", qSize), bias("k", kvSize), bias("v", kvSize)] : []),
      ...(qk_norm ? [norm("q"), norm("k")] : []),
      linear("self_attn.o_proj", hidden, qSize),
      ...(o_bias ? [bias("o", hidden)] : []),
    ];
  }
  const { q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim } = attention;
  const qSize = h * (qk_nope_head_dim + qk_rope_head_dim);
  const query: readonly Part[] =
    q_lora_rank === null
      ? [linear("self_attn.q_proj", qSize, hidden)]
      : [
          linear("self_attn.q_a_proj", q_lora_rank, hidden),
          { name: "self_attn.q_a_layernorm.weight", shape: [q_lora_rank] },
          linear("self_attn.q_b_proj", qSize, q_lora_rank),
        ];
  return [
    ...query,
    linear("self_attn.kv_a_proj_with_mqa", kv_lora_rank + qk_rope_head_dim, hidden),
    { name: "self_attn.kv_a_layernorm.weight", shape: [kv_lora_rank] },
    linear("self_attn.kv_b_proj", h * (qk_nope_head_dim + v_head_dim), kv_lora_rank),
    linear("self_attn.o_proj", hidden, h * v_head_dim),
  ];
}

function feedForwardParts(feedForward: FeedForward, hidden: number): readonly Part[] {
  return feedForward.kind === "dense"
    ? swigluParts("mlp", feedForward.intermediate_size, hidden)
    : moeParts(feedForward, hidden);
}

function moeParts(moe: MoeFeedForward, hidden: number): readonly Part[] {
  const { n_routed_experts, n_shared_experts, moe_intermediate_size } = moe;
  const experts = swigluParts("mlp.experts.{expert}", moe_intermediate_size, hidden);
  const bias: Part = { name: "mlp.gate.e_score_correction_bias", shape: [n_routed_experts] };
  return [
    { name: "mlp.gate.weight", shape: [n_routed_experts, hidden] },
    ...(moe.topk_method === "noaux_tc" ? [bias] : []),
    ...experts.map((part) => ({ ...part, experts: n_routed_experts })),
    ...(n_shared_experts === 0
      ? []
      : swigluParts("mlp.shared_experts", n_shared_experts * moe_intermediate_size, hidden)),
  ];
}

function swigluParts(prefix: string, inner: number, hidden: number): readonly Part[] {
  return [
    linear(`${prefix}.gate_proj`, inner, hidden),
    linear(`${prefix}.up_proj`, inner, hidden),
    linear(`${prefix}.down_proj`, hidden, inner),
  ];
}
