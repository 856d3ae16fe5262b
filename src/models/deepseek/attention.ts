/**
 * Attention over the paged caches: what a step hands to every layer, and grouped-query attention.
 *
 * Letters: n tokens, o of them that ask, b sequences, s keys per sequence (blocks * blockSize), h query heads, g key and value heads,
 * d head_dim.
 */
import type { Node } from "../../ir/graph.ts";
import type { GqaAttention } from "./attention-config.ts";
import { linear, type ModelBuilder, norm } from "./layers.ts";

/** What is known of n tokens, the same in every layer. */
export interface TokenValues {
  readonly n: number;
  /** Rows of the rope tables for the tokens' positions, f32 [n, dim / 2]. */
  readonly cos: Node;
  readonly sin: Node;
  /** i32 [n] each. */
  readonly positions: Node;
  readonly sequence: Node;
}

/** Values of the step that are the same in every layer; its own are those of the tokens whose keys are stored. */
export interface StepValues extends TokenValues {
  /** Sequences, keys per sequence. */
  readonly b: number;
  readonly s: number;
  /** Which cache rows hold the keys of each sequence, i32 [b, s]. */
  readonly keyRows: Node;
  /** i32 [n] */
  readonly slots: Node;
  /** The o tokens that ask: all, in the last layer perhaps those alone whose logits are wanted. */
  readonly asking: TokenValues;
}

export interface AttentionInput {
  /** f32 [n, hidden] */
  readonly x: Node;
  /** The rows that ask, f32 [o, hidden]; x itself where all do. */
  readonly asking: Node;
}

export interface AttentionResult {
  /** f32 [o, hidden] */
  readonly out: Node;
  readonly caches: readonly Node[];
}

/** Rotates x [n, heads, dim] by the tokens' positions. */
export function rotated({ m, config }: ModelBuilder, { cos, sin }: TokenValues, x: Node): Node {
  return m.rope(x, cos, sin, config.rope.layout === "interleaved");
}

/** x [n, hidden] and the caches [slots, g * d] of keys and values -> [o, hidden]. */
export function gqa(
  model: ModelBuilder,
  attention: GqaAttention,
  step: StepValues,
  name: string,
  { x, asking }: AttentionInput,
  keyCache: Node,
  valueCache: Node,
): AttentionResult {
  const { m } = model;
  const { num_attention_heads: h, num_key_value_heads: g, head_dim: d, qk_norm } = attention;
  const { n, b, s, asking: tokens } = step;
  // Qwen3 norms each head before rope.
  const headNorm = (part: string, y: Node) => (qk_norm ? norm(model, `${name}.${part}`, y) : y);

  const q_flat = linear(model, `${name}.q_proj`, asking); // [o, h * d]
  const k_flat = linear(model, `${name}.k_proj`, x); // [n, g * d]
  const v_new = m.named("v_new", linear(model, `${name}.v_proj`, x)); // [n, g * d]
  const q_heads = headNorm("q_norm", m.reshape(q_flat, [tokens.n, h, d])); // [o, h, d]
  const k_heads = headNorm("k_norm", m.reshape(k_flat, [n, g, d])); // [n, g, d]
  const q = m.named("q", rotated(model, tokens, q_heads));
  const k_new = m.named("k_new", rotated(model, step, k_heads));

  const keys = m.named("key_cache", m.updateRows(keyCache, m.reshape(k_new, [n, g * d]), step.slots)); // [slots, g * d]
  const values = m.named("value_cache", m.updateRows(valueCache, v_new, step.slots)); // [slots, g * d]
  const k = m.named("k", m.reshape(m.gather(keys, step.keyRows), [b, s, g, d])); // [b, s, g, d]
  const v = m.named("v", m.reshape(m.gather(values, step.keyRows), [b, s, g, d])); // [b, s, g, d]

  const heads = m.attention(q, k, v, tokens.positions, tokens.sequence, attention.softmax_scale); // [o, h, d]
  const out = linear(model, `${name}.o_proj`, m.reshape(m.named("heads", heads), [tokens.n, h * d])); // [o, hidden]
  return { out, caches: [keys, values] };
}
