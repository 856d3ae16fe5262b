/**
 * The feed-forward part of `config.json`: which layers are dense and which are mixtures of experts (MoE), and how the
 * gate of a mixture chooses and weighs its experts.
 */
import {
  boolField,
  choiceField,
  type Fields,
  intField,
  numberField,
  type Range,
  rawField,
  unsupportedValue,
  wrongValue,
} from "./fields.ts";

/** down(silu(gate x) * up x) with `intermediate_size` inner channels. */
export interface DenseFeedForward {
  readonly kind: "dense";
  readonly intermediate_size: number;
}

/** The sum of the chosen experts' outputs by weight, plus the shared experts' (one network n_shared_experts times as wide). */
export interface MoeFeedForward {
  readonly kind: "moe";
  readonly moe_intermediate_size: number;
  readonly n_routed_experts: number;
  /** 0: no shared experts. */
  readonly n_shared_experts: number;
  readonly num_experts_per_tok: number;
  readonly scoring_func: "softmax" | "sigmoid";
  /**
   * `greedy`: the best experts. `group_limited_greedy`: the best inside the topk_group groups with the best expert.
   * `noaux_tc`: scores plus `e_score_correction_bias` choose, groups rank by their two best; the bias is not in the weights.
   */
  readonly topk_method: "greedy" | "group_limited_greedy" | "noaux_tc";
  /** Equal runs of experts; 1 where groups play no part. */
  readonly n_group: number;
  readonly topk_group: number;
  /** Divide the chosen weights by their sum (+1e-20), before scaling. */
  readonly norm_topk_prob: boolean;
  /** Multiplies the weights. 1 for a softmax gate that normalises: there DeepSeek's code does the one or the other. */
  readonly routed_scaling_factor: number;
}

export type FeedForward = DenseFeedForward | MoeFeedForward;

/** What DeepSeek families assume where the file is silent, as documented by Hugging Face. */
export interface MoeDefaults {
  readonly scoring_func: MoeFeedForward["scoring_func"];
  readonly topk_method: MoeFeedForward["topk_method"];
  readonly norm_topk_prob: boolean;
  readonly routed_scaling_factor: number;
  readonly first_k_dense_replace: number;
}

const widths: Range = { min: 1, max: 2 ** 20 };
const experts: Range = { min: 1, max: 4096 };

const methodsOf = {
  softmax: ["greedy", "group_limited_greedy"],
  sigmoid: ["noaux_tc"],
} as const satisfies Record<MoeFeedForward["scoring_func"], readonly MoeFeedForward["topk_method"][]>;

/** One dense network for every layer. */
export function readDense(config: Fields): DenseFeedForward {
  return Object.freeze({ kind: "dense", intermediate_size: intField(config, "intermediate_size", widths) });
}

/** One entry per layer: dense below `first_k_dense_replace`, then a mixture every `moe_layer_freq` layers. */
export function readMixed(config: Fields, layers: number, defaults: MoeDefaults): readonly FeedForward[] {
  const dense = readDense(config);
  const moe = readMoe(config, defaults);
  const firstDense = intField(config, "first_k_dense_replace", { min: 0, max: layers }, defaults.first_k_dense_replace);
  const frequency = intField(config, "moe_layer_freq", { min: 1, max: layers }, 1);
  return Array.from({ length: layers }, (_, i) => (i >= firstDense && i % frequency === 0 ? moe : dense));
}

function readMoe(config: Fields, defaults: MoeDefaults): MoeFeedForward {
  const n_routed_experts = intField(config, "n_routed_experts", experts);
  const scoring_func = choiceField(config, "scoring_func", ["softmax", "sigmoid"], defaults.scoring_func);
  const topk_method = readMethod(config, scoring_func, defaults.topk_method);
  const groups = topk_method === "greedy" ? { n_group: 1, topk_group: 1 } : readGroups(config, n_routed_experts);
  const num_experts_per_tok = intField(config, "num_experts_per_tok", { min: 1, max: n_routed_experts });
  const reachable = groups.topk_group * (n_routed_experts / groups.n_group);
  if (num_experts_per_tok > reachable) {
    const expected = `at most the ${reachable} experts of topk_group ${groups.topk_group} groups`;
    throw wrongValue(config, "num_experts_per_tok", expected, num_experts_per_tok);
  }
  // Two experts rank a group.
  if (topk_method === "noaux_tc" && n_routed_experts / groups.n_group < 2) {
    throw wrongValue(config, "n_group", `at most half of n_routed_experts ${n_routed_experts}`, groups.n_group);
  }
  const norm_topk_prob = boolField(config, "norm_topk_prob", defaults.norm_topk_prob);
  const scaling = numberField(config, "routed_scaling_factor", { min: 1e-6, max: 1e6 }, defaults.routed_scaling_factor);
  return Object.freeze({
    kind: "moe",
    moe_intermediate_size: intField(config, "moe_intermediate_size", widths),
    n_routed_experts,
    n_shared_experts: intField(config, "n_shared_experts", { min: 0, max: 64 }, 0),
    num_experts_per_tok,
    scoring_func,
    topk_method,
    ...groups,
    norm_topk_prob,
    routed_scaling_factor: scoring_func === "softmax" && norm_topk_prob ? 1 : scaling,
  });
}

function readMethod(
  config: Fields,
  scoring: MoeFeedForward["scoring_func"],
  fallback: MoeFeedForward["topk_method"],
): MoeFeedForward["topk_method"] {
  const method = choiceField(config, "topk_method", ["greedy", "group_limited_greedy", "noaux_tc"], fallback);
  const allowed: readonly string[] = methodsOf[scoring];
  if (allowed.includes(method)) return method;
  // Without its field the method came from the family, so the scoring function is what does not fit.
  const [name, got] =
    rawField(config, "topk_method") === undefined ? ["scoring_func", scoring] : ["topk_method", method];
  const pairs = "softmax with greedy or group_limited_greedy, or sigmoid with noaux_tc";
  throw unsupportedValue(config, name, pairs, got);
}

function readGroups(config: Fields, nExperts: number): Pick<MoeFeedForward, "n_group" | "topk_group"> {
  const n_group = intField(config, "n_group", { min: 1, max: nExperts });
  if (nExperts % n_group !== 0) {
    throw wrongValue(config, "n_group", `a divisor of n_routed_experts ${nExperts}`, n_group);
  }
  return { n_group, topk_group: intField(config, "topk_group", { min: 1, max: n_group }) };
}
