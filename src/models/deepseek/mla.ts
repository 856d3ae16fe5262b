/**
 * Multi-head latent attention (DeepSeek-V2, section 2.1) in its plain form: keys and values of every head are computed
 * from the cached latents. Contracting the queries with `w_uk` instead ("absorption") is a rewrite of this form.
 *
 * Letters: n tokens, o of them that ask, b sequences, s keys per sequence, h heads, r kv_lora_rank, d qk_nope_head_dim, p qk_rope_head_dim,
 * e v_head_dim.
 */
import type { Node } from "../../ir/graph.ts";
import { type AttentionInput, type AttentionResult, rotated, type StepValues } from "./attention.ts";
import type { MlaAttention } from "./attention-config.ts";
import { linear, type ModelBuilder, norm } from "./layers.ts";

/** x [n, hidden] and the cache [slots, r + p] of normalised latents and rotated rope keys -> [o, hidden]. */
export function mla(
  model: ModelBuilder,
  attention: MlaAttention,
  step: StepValues,
  name: string,
  { x, asking }: AttentionInput,
  oldCache: Node,
): AttentionResult {
  const { m } = model;
  const { num_attention_heads: h, kv_lora_rank: r, v_head_dim: e } = attention;
  const { qk_nope_head_dim: d, qk_rope_head_dim: p, lora_norm_eps } = attention;
  const { n, b, s, asking: tokens } = step;
  const q_heads = m.named("q_heads", m.reshape(queries(model, attention, name, asking), [tokens.n, h, d + p])); // [o, h, d + p]
  const q_nope = m.named("q_nope", m.slice(q_heads, 2, 0, d)); // [o, h, d]
  const q_rope = m.named("q_rope", rotated(model, tokens, m.slice(q_heads, 2, d, d + p))); // [o, h, p]
  const q = m.named("q", m.concat(2, q_nope, q_rope)); // [o, h, d + p]

  // One latent and one rope key per token, for all heads.
  const kv_a = m.named("kv_a", linear(model, `${name}.kv_a_proj_with_mqa`, x)); // [n, r + p]
  const c_new = m.named("c_new", norm(model, `${name}.kv_a_layernorm`, m.slice(kv_a, 1, 0, r), lora_norm_eps)); // [n, r]
  const k_rope_head = m.reshape(m.slice(kv_a, 1, r, r + p), [n, 1, p]); // [n, 1, p]
  const k_rope_new = m.named("k_rope_new", rotated(model, step, k_rope_head));
  const row_new = m.named("row_new", m.concat(1, c_new, m.reshape(k_rope_new, [n, p]))); // [n, r + p]
  const cache = m.named("cache", m.updateRows(oldCache, row_new, step.slots)); // [slots, r + p]

  const rows = m.named("rows", m.gather(cache, step.keyRows)); // [b, s, r + p]
  const c = m.named("c", m.slice(rows, 2, 0, r)); // [b, s, r]
  const k_rope = m.named("k_rope", m.reshape(m.slice(rows, 2, r, r + p), [b, s, 1, p])); // [b, s, 1, p]

  const w_kv_b = m.named("w_kv_b", m.reshape(model.matrix(`${name}.kv_b_proj.weight`), [h, d + e, r])); // [h, d + e, r]
  const w_uk = m.named("w_uk", m.slice(w_kv_b, 1, 0, d)); // [h, d, r]
  const w_uv = m.named("w_uv", m.slice(w_kv_b, 1, d, d + e)); // [h, e, r]
  const k_nope = m.named("k_nope", m.contract("b s r, h d r -> b s h d", c, w_uk)); // [b, s, h, d]
  const k = m.named("k", m.concat(3, k_nope, m.broadcast(k_rope, [b, s, h, p]))); // [b, s, h, d + p]
  const v = m.named("v", m.contract("b s r, h e r -> b s h e", c, w_uv)); // [b, s, h, e]

  const heads = m.attention(q, k, v, tokens.positions, tokens.sequence, attention.softmax_scale); // [o, h, e]
  const out = linear(model, `${name}.o_proj`, m.reshape(m.named("heads", heads), [tokens.n, h * e])); // [o, hidden]
  return { out, caches: [cache] };
}

/** Straight from x, or through a normalised latent of q_lora_rank channels. [n, hidden] -> [n, h * (d + p)] */
function queries(model: ModelBuilder, attention: MlaAttention, name: string, x: Node): Node {
  const { q_lora_rank, lora_norm_eps } = attention;
  if (q_lora_rank === null) return linear(model, `${name}.q_proj`, x); // [n, h * (d + p)]
  const q_a = model.m.named("q_a", linear(model, `${name}.q_a_proj`, x)); // [n, q_lora_rank]
  const c_q = model.m.named("c_q", norm(model, `${name}.q_a_layernorm`, q_a, lora_norm_eps));
  return linear(model, `${name}.q_b_proj`, c_q); // [n, h * (d + p)]
}
