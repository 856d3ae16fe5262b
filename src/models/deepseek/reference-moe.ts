/** Mixture of experts of the reference model: the gate that chooses and weighs experts, and their weighted sum. */
import type { MoeFeedForward } from "./feed-forward-config.ts";
import { linear, readWeight, sigmoid, softmax, swiglu, type WeightSource } from "./reference-math.ts";

export interface ExpertChoice {
  readonly expert: number;
  readonly weight: number;
}

/** x [n, hidden] -> [n, hidden]; `prefix` is e.g. `model.layers.3.mlp`. */
export function referenceMoe(
  moe: MoeFeedForward,
  source: WeightSource,
  prefix: string,
  x: Float64Array,
  hidden: number,
): Float64Array {
  const { n_routed_experts, n_shared_experts } = moe;
  const logits = linear(source, `${prefix}.gate`, x, hidden); // [n, experts]
  const biased = moe.topk_method === "noaux_tc";
  const bias = biased ? readWeight(source, `${prefix}.gate.e_score_correction_bias`) : null;
  const n = x.length / hidden;
  const choices = Array.from({ length: n }, (_, t) =>
    chooseExperts(moe, logits.subarray(t * n_routed_experts, (t + 1) * n_routed_experts), bias),
  );
  const out =
    n_shared_experts === 0 ? new Float64Array(x.length) : swiglu(source, `${prefix}.shared_experts`, x, hidden);
  for (let expert = 0; expert < n_routed_experts; expert++) {
    const tokens = choices.flatMap((chosen, t) => (chosen.some((choice) => choice.expert === expert) ? [t] : []));
    if (tokens.length === 0) continue;
    const rows = tokens.flatMap((t) => Array.from(x.subarray(t * hidden, (t + 1) * hidden)));
    const y = swiglu(source, `${prefix}.experts.${expert}`, Float64Array.from(rows), hidden);
    tokens.forEach((t, row) => {
      const { weight } = choices[t]!.find((choice) => choice.expert === expert)!;
      for (let i = 0; i < hidden; i++) out[t * hidden + i]! += weight * y[row * hidden + i]!;
    });
  }
  return out;
}

/** The experts of one token and their weights, best first; equal scores go to the lower number. */
export function chooseExperts(
  moe: MoeFeedForward,
  logits: Float64Array,
  bias: Float64Array | null,
): readonly ExpertChoice[] {
  const scores = moe.scoring_func === "softmax" ? softmax(logits) : logits.map(sigmoid);
  const ranking = bias === null ? scores : scores.map((score, e) => score + bias[e]!);
  const chosen = largest(maskGroups(moe, ranking), moe.num_experts_per_tok);
  let sum = 1e-20;
  for (const expert of chosen) sum += scores[expert]!;
  const factor = moe.routed_scaling_factor / (moe.norm_topk_prob ? sum : 1);
  return chosen.map((expert) => ({ expert, weight: scores[expert]! * factor }));
}

/** Rankings with those outside the best topk_group groups made unreachable: 0 for probabilities, -inf for biased scores. */
function maskGroups(moe: MoeFeedForward, ranking: Float64Array): Float64Array {
  if (moe.topk_method === "greedy") return ranking;
  const size = moe.n_routed_experts / moe.n_group;
  const best = moe.topk_method === "noaux_tc" ? 2 : 1;
  const groupScores = Float64Array.from({ length: moe.n_group }, (_, g) => {
    const group = ranking.subarray(g * size, (g + 1) * size);
    return largest(group, best).reduce((sum, e) => sum + group[e]!, 0);
  });
  const kept = largest(groupScores, moe.topk_group);
  const masked = moe.topk_method === "noaux_tc" ? Number.NEGATIVE_INFINITY : 0;
  return ranking.map((value, e) => (kept.includes(Math.floor(e / size)) ? value : masked));
}

/** Positions of the k largest values, largest first. */
function largest(values: Float64Array, k: number): readonly number[] {
  const order = Array.from(values.keys());
  return order.sort((a, b) => values[b]! - values[a]! || a - b).slice(0, k);
}
