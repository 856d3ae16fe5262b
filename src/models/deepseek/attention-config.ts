/**
 * The attention part of `config.json`: grouped-query attention (GQA; with as many key heads as query heads it is the
 * plain multi-head kind) or multi-head latent attention (MLA).
 */
import {
  boolField,
  type Fields,
  intField,
  optionalIntField,
  type Range,
  rawField,
  unsupportedValue,
  wrongValue,
} from "./fields.ts";
import { mlaSoftmaxScale } from "./rope.ts";
import type { RopeScaling } from "./rope-config.ts";

/** Query head i reads key and value head floor(i / (num_attention_heads / num_key_value_heads)). */
export interface GqaAttention {
  readonly kind: "gqa";
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  /** Biases on q_proj, k_proj and v_proj. */
  readonly qkv_bias: boolean;
  /** Bias on o_proj. */
  readonly o_bias: boolean;
  /** RMS norm of each query and key head (`q_norm`, `k_norm`) before rope. */
  readonly qk_norm: boolean;
  /** Multiplies q . k. */
  readonly softmax_scale: number;
}

/** Keys and values come from one latent of kv_lora_rank channels per token; a rope part is shared by all heads. */
export interface MlaAttention {
  readonly kind: "mla";
  readonly num_attention_heads: number;
  /** null: q_proj projects straight from the hidden state. */
  readonly q_lora_rank: number | null;
  readonly kv_lora_rank: number;
  readonly qk_nope_head_dim: number;
  readonly qk_rope_head_dim: number;
  readonly v_head_dim: number;
  /** Epsilon of q_a_layernorm and kv_a_layernorm: a constant of the architecture, not the config's rms_norm_eps. */
  readonly lora_norm_eps: number;
  /** Multiplies q . k. */
  readonly softmax_scale: number;
}

export type Attention = GqaAttention | MlaAttention;

const heads: Range = { min: 1, max: 4096 };
const headDims: Range = { min: 1, max: 4096 };
const ranks: Range = { min: 1, max: 65536 };

export interface GqaRules {
  /** `always` whatever the file says (Qwen2), or as `attention_bias` says. */
  readonly bias: "always_qkv" | "attention_bias";
  readonly qk_norm: boolean;
  /** Whether the file may leave out num_key_value_heads, meaning num_attention_heads. */
  readonly kvHeadsDefault: boolean;
}

export function readGqa(config: Fields, hiddenSize: number, rules: GqaRules): GqaAttention {
  const num_attention_heads = intField(config, "num_attention_heads", heads);
  const kvDefault = rules.kvHeadsDefault ? num_attention_heads : undefined;
  const num_key_value_heads = intField(config, "num_key_value_heads", { min: 1, max: num_attention_heads }, kvDefault);
  if (num_attention_heads % num_key_value_heads !== 0) {
    const expected = `a divisor of num_attention_heads ${num_attention_heads}`;
    throw wrongValue(config, "num_key_value_heads", expected, num_key_value_heads);
  }
  const head_dim = readHeadDim(config, hiddenSize, num_attention_heads);
  const biased = boolField(config, "attention_bias", false);
  return Object.freeze({
    kind: "gqa",
    num_attention_heads,
    num_key_value_heads,
    head_dim,
    qkv_bias: rules.bias === "always_qkv" || biased,
    o_bias: rules.bias === "attention_bias" && biased,
    qk_norm: rules.qk_norm,
    softmax_scale: 1 / Math.sqrt(head_dim),
  });
}

function readHeadDim(config: Fields, hiddenSize: number, nHeads: number): number {
  if (rawField(config, "head_dim") === undefined && hiddenSize % nHeads !== 0) {
    throw wrongValue(config, "num_attention_heads", `a divisor of hidden_size ${hiddenSize}, or a head_dim`, nHeads);
  }
  const head_dim = intField(config, "head_dim", headDims, hiddenSize / nHeads);
  if (head_dim % 2 !== 0) throw wrongValue(config, "head_dim", "an even number (rope turns pairs)", head_dim);
  return head_dim;
}

export function readMla(config: Fields, scaling: RopeScaling): MlaAttention {
  const num_attention_heads = intField(config, "num_attention_heads", heads);
  const kvHeads = intField(config, "num_key_value_heads", heads, num_attention_heads);
  if (kvHeads !== num_attention_heads) {
    const expected = `num_attention_heads ${num_attention_heads}, as latent attention has one value head per query head`;
    throw wrongValue(config, "num_key_value_heads", expected, kvHeads);
  }
  if (boolField(config, "attention_bias", false)) {
    throw unsupportedValue(config, "attention_bias", "false for latent attention", true);
  }
  const qk_nope_head_dim = intField(config, "qk_nope_head_dim", headDims);
  const qk_rope_head_dim = intField(config, "qk_rope_head_dim", headDims);
  if (qk_rope_head_dim % 2 !== 0) {
    throw wrongValue(config, "qk_rope_head_dim", "an even number (rope turns pairs)", qk_rope_head_dim);
  }
  const qkHeadDim = qk_nope_head_dim + qk_rope_head_dim;
  const stated = intField(config, "qk_head_dim", { min: 1, max: 8192 }, qkHeadDim);
  if (stated !== qkHeadDim) throw wrongValue(config, "qk_head_dim", `${qkHeadDim}, nope and rope together`, stated);
  return Object.freeze({
    kind: "mla",
    num_attention_heads,
    q_lora_rank: optionalIntField(config, "q_lora_rank", ranks),
    kv_lora_rank: intField(config, "kv_lora_rank", ranks),
    qk_nope_head_dim,
    qk_rope_head_dim,
    v_head_dim: intField(config, "v_head_dim", headDims),
    lora_norm_eps: 1e-6,
    softmax_scale: mlaSoftmaxScale(qkHeadDim, scaling),
  });
}
