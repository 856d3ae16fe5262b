/**
 * Multi-head latent attention on tfjs with a KV cache, in both forms: absorbed, where queries are projected onto the
 * cached latent, and materialised, where keys and values of every head are.
 */
import * as tf from "@tensorflow/tfjs-core";
import type { MlaAttention } from "../../src/models/deepseek/attention-config.ts";
import { linear, linearGroup, normalize, softmax, spread } from "./tfjs-ops.ts";
import type { AttentionWeights } from "./tfjs-weights.ts";

/** What a layer remembers: tensors that live from step to step. */
export type Cache =
  /** rows [s, kv_lora_rank + rope]. */
  | { readonly kind: "latent"; readonly rows: tf.Tensor2D }
  /** keys [h, s, nope], rope [1, s, rope], values [h, s, v_head_dim]. */
  | { readonly kind: "perHead"; readonly keys: tf.Tensor3D; readonly rope: tf.Tensor3D; readonly values: tf.Tensor3D };

type PerHead = Extract<Cache, { kind: "perHead" }>;

export interface Rotation {
  /** [n, rope], each pair's value twice. */
  readonly cos: tf.Tensor2D;
  readonly sin: tf.Tensor2D;
}

interface Projected {
  /** [n, q_lora_rank] and [n, kv_lora_rank], normalised. */
  readonly query: tf.Tensor2D;
  readonly latent: tf.Tensor2D;
  /** [n, rope], rotated. */
  readonly rope: tf.Tensor2D;
}

/** x [n, hidden], normalised -> attention's output [n, hidden] and the cache with n more tokens. */
export function attend(
  x: tf.Tensor2D,
  mla: MlaAttention,
  weights: AttentionWeights,
  rotation: Rotation,
  cache: Cache | undefined,
  kind: Cache["kind"],
): { readonly y: tf.Tensor2D; readonly cache: Cache } {
  const [q, c, k, turned] = linearGroup(x, weights.down);
  const projected: Projected = {
    query: normalize(q!, mla.lora_norm_eps),
    latent: normalize(c!, mla.lora_norm_eps),
    rope: rotated(k!, turned!, rotation),
  };
  const after = kind === "latent" ? appendLatent(projected, cache) : appendPerHead(projected, weights, cache);
  const context =
    after.kind === "latent" && x.shape[0] === 1
      ? absorbed(projected, mla, weights, rotation, after.rows)
      : materialized(projected, mla, weights, rotation, perHeadOf(after, cache, projected, mla, weights));
  return { y: linear(context, weights.output), cache: after };
}

function rotated<T extends tf.Tensor>(x: T, turned: T, { cos, sin }: Rotation): T {
  return tf.add(tf.mul(x, cos), tf.mul(turned, sin));
}

function appendLatent({ latent, rope }: Projected, cache: Cache | undefined): Cache {
  const rows = tf.concat([latent, rope], 1);
  return { kind: "latent", rows: cache?.kind === "latent" ? tf.concat([cache.rows, rows], 0) : rows };
}

function appendPerHead({ latent, rope }: Projected, weights: AttentionWeights, cache: Cache | undefined): Cache {
  const fresh = perHead(latent, rope, weights);
  if (cache?.kind !== "perHead") return fresh;
  return {
    kind: "perHead",
    keys: tf.concat([cache.keys, fresh.keys], 1),
    rope: tf.concat([cache.rope, fresh.rope], 1),
    values: tf.concat([cache.values, fresh.values], 1),
  };
}

function perHead(latent: tf.Tensor2D, rope: tf.Tensor2D, weights: AttentionWeights) {
  const c = tf.expandDims(latent, 0) as tf.Tensor3D;
  return {
    kind: "perHead" as const,
    keys: tf.matMul<tf.Tensor3D>(c, weights.keyNope, false, true), // [h, s, nope]
    rope: tf.expandDims(rope, 0) as tf.Tensor3D,
    values: tf.matMul<tf.Tensor3D>(c, weights.value, false, true), // [h, s, v_head_dim]
  };
}

/** One token: scores and sums over latent rows; a head's value matrix comes after its sum. -> [1, h * v_head_dim]. */
function absorbed(
  { query }: Projected,
  mla: MlaAttention,
  weights: AttentionWeights,
  rotation: Rotation,
  rows: tf.Tensor2D,
): tf.Tensor2D {
  const { num_attention_heads: h, kv_lora_rank: r, qk_rope_head_dim: p, v_head_dim: vd } = mla;
  const q = linear(query, weights.queryAbsorbed);
  const part = (start: number, size: number) => tf.reshape(tf.slice(q, [0, start], [1, h * size]), [h, size]);
  const cos = tf.reshape(rotation.cos, [p]);
  const sin = tf.reshape(rotation.sin, [p]);
  const rope = tf.add(tf.mul(part(h * r, p), cos), tf.mul(part(h * (r + p), p), sin));
  const queries = tf.concat([part(0, r), rope], 1) as tf.Tensor2D; // [h, r + p]
  const scores = tf.matMul<tf.Tensor2D>(queries, rows, false, true); // [h, s]
  // Divided by its sum after the sum over tokens, which is shorter than the scores.
  const e = tf.exp(tf.sub(scores, spread(tf.max(scores, 1), scores.shape[1])));
  const sums = tf.div(tf.matMul(e, rows), spread(tf.sum(e, 1), r + p)); // [h, r + p]
  const values = tf.matMul(tf.reshape(sums, [h, 1, r + p]) as tf.Tensor3D, weights.valueAbsorbed, false, true);
  return tf.reshape(values, [1, h * vd]);
}

/** Any number of tokens -> [n, h * v_head_dim]. */
function materialized(
  { query }: Projected,
  mla: MlaAttention,
  weights: AttentionWeights,
  rotation: Rotation,
  { keys, rope, values }: PerHead,
): tf.Tensor2D {
  const { num_attention_heads: h, qk_rope_head_dim: p, v_head_dim: vd } = mla;
  const n = query.shape[0];
  const s = keys.shape[1];
  const a = tf.expandDims(query, 0) as tf.Tensor3D;
  const nopeQuery = tf.matMul(a, weights.queryNope, false, true); // [h, n, nope]
  const ropeQuery = rotated(
    tf.matMul(a, weights.queryRope, false, true),
    tf.matMul(a, weights.queryTurned, false, true),
    rotation,
  ); // [h, n, p]
  const ropeScores = tf.matMul(tf.reshape(ropeQuery, [1, h * n, p]) as tf.Tensor3D, rope, false, true);
  const scores = tf.add(tf.matMul(nopeQuery, keys, false, true), tf.reshape(ropeScores, [h, n, s]));
  const masked = n === 1 ? scores : tf.add(scores, causalMask(n, s));
  const shares = tf.reshape(softmax(tf.reshape(masked, [h * n, s])), [h, n, s]) as tf.Tensor3D;
  const heads = tf.matMul(shares, values); // [h, n, vd]
  return tf.reshape(n === 1 ? heads : tf.transpose(heads, [1, 0, 2]), [n, h * vd]);
}

/** Keys and values of the whole sequence. Columns of a cache are copied element by element, so not for a first prefill. */
function perHeadOf(
  after: Cache,
  before: Cache | undefined,
  { latent, rope }: Projected,
  mla: MlaAttention,
  weights: AttentionWeights,
): PerHead {
  if (after.kind === "perHead") return after;
  if (before === undefined) return perHead(latent, rope, weights);
  const { kv_lora_rank: r, qk_rope_head_dim: p } = mla;
  const s = after.rows.shape[0];
  return perHead(tf.slice(after.rows, [0, 0], [s, r]), tf.slice(after.rows, [0, r], [s, p]), weights);
}

/** [n, s]: 0 where the i-th of the last n tokens sees token j, else a number that exp makes 0. */
function causalMask(n: number, s: number): tf.Tensor2D {
  const mask = new Float32Array(n * s);
  for (let i = 0; i < n; i++) mask.fill(-1e9, i * s + (s - n) + i + 1, (i + 1) * s);
  return tf.tensor2d(mask, [n, s]);
}
