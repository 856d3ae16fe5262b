/**
 * Mixture of experts: the gate chooses and weighs experts per token, the chosen ones run, and a shared network is added.
 *
 * Letters: n tokens, i hidden channels, E routed experts, k experts per token, f inner channels of an expert, g groups,
 * t groups kept.
 */
import type { Node } from "../../ir/graph.ts";
import type { MoeFeedForward } from "./feed-forward-config.ts";
import { linear, type ModelBuilder, swiglu } from "./layers.ts";

/** x [n, i] -> [n, i], and what the gate chose; `name` is e.g. `model.layers.{layer}.mlp`. */
export function moe(
  model: ModelBuilder,
  feedForward: MoeFeedForward,
  name: string,
  x: Node,
): { readonly out: Node; readonly choice: Choice } {
  const { m } = model;
  const choice = gate(model, feedForward, name, x);
  const { experts, weights } = choice; // [n, k] each
  const chosen = (part: string) => m.gather(model.matrix(`${name}.experts.{expert}.${part}.weight`), experts);
  const g = m.named("expert_gate", m.contract("n i, n k f i -> n k f", x, chosen("gate_proj"))); // [n, k, f]
  const u = m.named("expert_up", m.contract("n i, n k f i -> n k f", x, chosen("up_proj"))); // [n, k, f]
  const act = m.named("expert_act", m.mul(m.mul(m.silu(g), u), m.expandLast(weights)));
  const routed = m.named("routed", m.contract("n k f, n k i f -> n i", act, chosen("down_proj"))); // [n, i]
  if (feedForward.n_shared_experts === 0) return { out: routed, choice };
  return { out: m.add(routed, m.named("shared", swiglu(model, `${name}.shared_experts`, x))), choice };
}

export interface Choice {
  /** i32 [n, k], best first. */
  readonly experts: Node;
  /** f32 [n, k] */
  readonly weights: Node;
}

/** The experts of each token and their weights. */
function gate(model: ModelBuilder, feedForward: MoeFeedForward, name: string, x: Node): Choice {
  const { m } = model;
  const { scoring_func, topk_method, num_experts_per_tok, norm_topk_prob, routed_scaling_factor } = feedForward;
  const logits = m.named("router_logits", linear(model, `${name}.gate`, x)); // [n, E]
  const scores = m.named("scores", scoring_func === "softmax" ? m.softmax(logits) : m.sigmoid(logits));
  // The bias takes part in the choice alone.
  const ranking =
    topk_method === "noaux_tc"
      ? m.add(scores, m.cast(model.weight(`${name}.gate.e_score_correction_bias`), "f32"))
      : scores;
  const reachable = m.named("reachable", limitGroups(model, feedForward, m.named("ranking", ranking))); // [n, E]
  const experts = m.named("experts", m.topKIndices(reachable, num_experts_per_tok)); // [n, k]
  let weights: Node = m.takeAlong(scores, experts); // [n, k]
  if (norm_topk_prob) weights = m.div(weights, m.expandLast(m.add(m.reduceSum(weights), 1e-20)));
  if (routed_scaling_factor !== 1) weights = m.mul(weights, routed_scaling_factor);
  return { experts, weights: m.named("expert_weights", weights) };
}

/**
 * Rankings [n, E] with those outside the best topk_group groups made unreachable: 0 for probabilities, -inf for biased
 * scores. A group ranks by its best expert, or by the sum of its two best where there is a bias.
 */
function limitGroups({ m }: ModelBuilder, feedForward: MoeFeedForward, ranking: Node): Node {
  const { topk_method, n_routed_experts, n_group, topk_group } = feedForward;
  if (topk_group === n_group) return ranking;
  const lead = ranking.type.shape.slice(0, -1); // [n]
  const grouped = m.reshape(ranking, [...lead, n_group, n_routed_experts / n_group]); // [n, g, E / g]
  const group_scores = topk_method === "noaux_tc" ? m.reduceSum(m.topKValues(grouped, 2)) : m.reduceMax(grouped); // [n, g]
  const groups = m.topKIndices(m.named("group_scores", group_scores), topk_group); // [n, t]
  // A group is kept if its number is any of the t.
  const number = m.iota("i32", [...lead, n_group, topk_group], lead.length); // [n, g, t]
  const matches = m.eq(m.reshape(groups, [...lead, 1, topk_group]), number); // [n, g, t]
  const kept = m.named("kept_groups", m.gt(m.reduceMax(m.cast(matches, "f32")), 0)); // [n, g]
  const masked = topk_method === "noaux_tc" ? Number.NEGATIVE_INFINITY : 0;
  return m.reshape(m.select(m.expandLast(kept), grouped, masked), ranking.type.shape); // [n, E]
}
