/**
 * Attention of the reference model over one whole sequence, without a cache: grouped-query attention, and latent
 * attention (MLA) in its plain form, where keys and values of every head are computed from the latent.
 */
import type { GqaAttention, MlaAttention } from "./attention-config.ts";
import type { ModelConfig } from "./config.ts";
import { linear, readWeight, rmsNorm, rotate, softmax, type WeightSource } from "./reference-math.ts";
import { inverseFrequencies } from "./rope.ts";

/** x [n, hidden] -> [n, hidden]; `prefix` is e.g. `model.layers.0.self_attn`. */
export function referenceAttention(
  config: ModelConfig,
  source: WeightSource,
  prefix: string,
  x: Float64Array,
): Float64Array {
  const { attention } = config;
  return attention.kind === "gqa"
    ? gqa(config, attention, source, prefix, x)
    : mla(config, attention, source, prefix, x);
}

function gqa(
  config: ModelConfig,
  attention: GqaAttention,
  source: WeightSource,
  prefix: string,
  x: Float64Array,
): Float64Array {
  const { num_attention_heads: h, num_key_value_heads: kv, head_dim: d, qkv_bias, o_bias, qk_norm } = attention;
  const { hidden_size, rms_norm_eps } = config;
  const n = x.length / hidden_size;
  let q = linear(source, `${prefix}.q_proj`, x, hidden_size, qkv_bias); // [n, h, d]
  let k = linear(source, `${prefix}.k_proj`, x, hidden_size, qkv_bias); // [n, kv, d]
  const v = linear(source, `${prefix}.v_proj`, x, hidden_size, qkv_bias); // [n, kv, d]
  if (qk_norm) {
    q = rmsNorm(q, readWeight(source, `${prefix}.q_norm.weight`), rms_norm_eps);
    k = rmsNorm(k, readWeight(source, `${prefix}.k_norm.weight`), rms_norm_eps);
  }
  const frequencies = inverseFrequencies(config.rope);
  for (let t = 0; t < n; t++) {
    for (let i = 0; i < h; i++) rotate(headOf(q, t, i, h, d), t, config.rope, frequencies);
    for (let i = 0; i < kv; i++) rotate(headOf(k, t, i, kv, d), t, config.rope, frequencies);
  }
  const out = attend(q, k, v, { n, h, kv, d, vd: d, scale: attention.softmax_scale });
  return linear(source, `${prefix}.o_proj`, out, h * d, o_bias);
}

function mla(
  config: ModelConfig,
  attention: MlaAttention,
  source: WeightSource,
  prefix: string,
  x: Float64Array,
): Float64Array {
  const { num_attention_heads: h, kv_lora_rank: r, qk_nope_head_dim: nope, qk_rope_head_dim: p } = attention;
  const { v_head_dim: vd, lora_norm_eps } = attention;
  const { hidden_size, rope } = config;
  const n = x.length / hidden_size;
  const d = nope + p;
  const q = mlaQuery(attention, source, prefix, x, hidden_size); // [n, h, d], each head nope then rope
  const a = linear(source, `${prefix}.kv_a_proj_with_mqa`, x, hidden_size); // [n, r + p]
  const latent = new Float64Array(n * r);
  for (let t = 0; t < n; t++) latent.set(a.subarray(t * (r + p), t * (r + p) + r), t * r);
  const c = rmsNorm(latent, readWeight(source, `${prefix}.kv_a_layernorm.weight`), lora_norm_eps);
  const kv = linear(source, `${prefix}.kv_b_proj`, c, r); // [n, h, nope + vd]
  const k = new Float64Array(n * h * d);
  const v = new Float64Array(n * h * vd);
  const frequencies = inverseFrequencies(rope);
  for (let t = 0; t < n; t++) {
    const kRope = a.subarray(t * (r + p) + r, (t + 1) * (r + p)); // one per token, for all heads
    rotate(kRope, t, rope, frequencies);
    for (let i = 0; i < h; i++) {
      rotate(headOf(q, t, i, h, d).subarray(nope), t, rope, frequencies);
      const both = headOf(kv, t, i, h, nope + vd);
      const key = headOf(k, t, i, h, d);
      key.set(both.subarray(0, nope));
      key.set(kRope, nope);
      headOf(v, t, i, h, vd).set(both.subarray(nope));
    }
  }
  const out = attend(q, k, v, { n, h, kv: h, d, vd, scale: attention.softmax_scale });
  return linear(source, `${prefix}.o_proj`, out, h * vd);
}

function mlaQuery(
  attention: MlaAttention,
  source: WeightSource,
  prefix: string,
  x: Float64Array,
  hidden: number,
): Float64Array {
  const { q_lora_rank, lora_norm_eps } = attention;
  if (q_lora_rank === null) return linear(source, `${prefix}.q_proj`, x, hidden);
  const a = linear(source, `${prefix}.q_a_proj`, x, hidden);
  const normed = rmsNorm(a, readWeight(source, `${prefix}.q_a_layernorm.weight`), lora_norm_eps);
  return linear(source, `${prefix}.q_b_proj`, normed, q_lora_rank);
}

interface AttendSizes {
  readonly n: number;
  readonly h: number;
  /** Key and value heads; h is a multiple. */
  readonly kv: number;
  readonly d: number;
  readonly vd: number;
  readonly scale: number;
}

/** Causal attention: q [n, h, d], k [n, kv, d], v [n, kv, vd] -> [n, h, vd]. */
function attend(q: Float64Array, k: Float64Array, v: Float64Array, sizes: AttendSizes): Float64Array {
  const { n, h, kv, d, vd, scale } = sizes;
  const out = new Float64Array(n * h * vd);
  for (let t = 0; t < n; t++) {
    for (let i = 0; i < h; i++) {
      const group = Math.floor(i / (h / kv));
      const query = headOf(q, t, i, h, d);
      const scores = Float64Array.from({ length: t + 1 }, (_, s) => scale * dot(query, headOf(k, s, group, kv, d)));
      const row = headOf(out, t, i, h, vd);
      softmax(scores).forEach((weight, s) => {
        const value = headOf(v, s, group, kv, vd);
        for (let j = 0; j < vd; j++) row[j]! += weight * value[j]!;
      });
    }
  }
  return out;
}

/** The `size` values of one head of one token, as a view. */
function headOf(x: Float64Array, token: number, head: number, heads: number, size: number): Float64Array {
  const start = (token * heads + head) * size;
  return x.subarray(start, start + size);
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}
