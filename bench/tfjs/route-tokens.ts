/**
 * DeepSeek-V3's gate on the host: which experts run must be known to JavaScript anyway, and the logits are few. Sigmoid
 * scores plus a correction bias rank the experts; only those of the best groups can be chosen; weights are the scores.
 */
import type { MoeFeedForward } from "../../src/models/deepseek/feed-forward-config.ts";

export interface Routing {
  /** [n * num_experts_per_tok], the experts of each token. */
  readonly experts: Int32Array;
  /** Their weights, same layout. */
  readonly weights: Float32Array;
}

/** `logits` [n, n_routed_experts]. */
export function routeTokens(moe: MoeFeedForward, bias: Float32Array, logits: Float32Array): Routing {
  const { n_routed_experts: e, num_experts_per_tok: k, n_group, topk_group } = moe;
  const n = logits.length / e;
  const size = e / n_group;
  const experts = new Int32Array(n * k);
  const weights = new Float32Array(n * k);
  const scores = new Float64Array(e);
  const ranking = new Float64Array(e);
  const groups = new Float64Array(n_group);
  for (let t = 0; t < n; t++) {
    for (let i = 0; i < e; i++) {
      scores[i] = 1 / (1 + Math.exp(-logits[t * e + i]!));
      ranking[i] = scores[i]! + bias[i]!;
    }
    for (let g = 0; g < n_group; g++) groups[g] = sumOfBestTwo(ranking, g * size, size);
    for (let dropped = n_group; dropped > topk_group; dropped--) {
      const worst = indexOfLeast(groups);
      groups[worst] = Number.POSITIVE_INFINITY;
      ranking.fill(Number.NEGATIVE_INFINITY, worst * size, (worst + 1) * size);
    }
    let sum = 1e-20;
    for (let j = 0; j < k; j++) {
      const best = indexOfGreatest(ranking);
      ranking[best] = Number.NEGATIVE_INFINITY;
      experts[t * k + j] = best;
      weights[t * k + j] = scores[best]!;
      sum += scores[best]!;
    }
    const factor = moe.routed_scaling_factor / (moe.norm_topk_prob ? sum : 1);
    for (let j = 0; j < k; j++) weights[t * k + j]! *= factor;
  }
  return { experts, weights };
}

function sumOfBestTwo(values: Float64Array, start: number, size: number): number {
  let [first, second] = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = start; i < start + size; i++) {
    const value = values[i]!;
    if (value > first) [first, second] = [value, first];
    else if (value > second) second = value;
  }
  return first + second;
}

/** Of equals the last, so that the lower number stays. */
function indexOfLeast(values: Float64Array): number {
  let at = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! <= values[at]!) at = i;
  return at;
}

/** Of equals the first. */
function indexOfGreatest(values: Float64Array): number {
  let at = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[at]!) at = i;
  return at;
}
