/** The gate of the reference model on cases small enough to work out by hand. */
import { describe, expect, test } from "vitest";
import type { MoeFeedForward } from "../../src/models/deepseek/feed-forward-config.ts";
import { chooseExperts } from "../../src/models/deepseek/reference-moe.ts";

const moe: MoeFeedForward = {
  kind: "moe",
  moe_intermediate_size: 1,
  n_routed_experts: 4,
  n_shared_experts: 0,
  num_experts_per_tok: 2,
  scoring_func: "softmax",
  topk_method: "greedy",
  n_group: 1,
  topk_group: 1,
  norm_topk_prob: false,
  routed_scaling_factor: 1,
};
const logs = (...p: number[]) => Float64Array.from(p, Math.log); // softmax of these is p, for p that sum to 1
const logits = (...p: number[]) => Float64Array.from(p, (x) => Math.log(x / (1 - x))); // sigmoid of these is p

describe("softmax", () => {
  test("greedy: probabilities are the weights", () => {
    const chosen = chooseExperts(moe, logs(0.1, 0.4, 0.2, 0.3), null);
    expect(chosen.map((c) => c.expert)).toEqual([1, 3]);
    expect(chosen[0]!.weight).toBeCloseTo(0.4, 12);
    expect(chosen[1]!.weight).toBeCloseTo(0.3, 12);
  });

  test("group_limited_greedy: groups rank by their best expert", () => {
    const grouped: MoeFeedForward = {
      ...moe,
      topk_method: "group_limited_greedy",
      n_group: 2,
      routed_scaling_factor: 16,
    };
    const chosen = chooseExperts(grouped, logs(0.05, 0.4, 0.25, 0.3), null);
    expect(chosen.map((c) => c.expert)).toEqual([1, 0]); // 0.4 beats 0.3, though 0.25 + 0.3 is more
    expect(chosen[1]!.weight).toBeCloseTo(0.05 * 16, 12);
  });

  test("equal scores go to the lower number", () => {
    expect(chooseExperts(moe, logs(0.25, 0.25, 0.25, 0.25), null).map((c) => c.expert)).toEqual([0, 1]);
  });
});

describe("sigmoid with correction bias", () => {
  const v3: MoeFeedForward = {
    ...moe,
    scoring_func: "sigmoid",
    topk_method: "noaux_tc",
    n_group: 2,
    norm_topk_prob: true,
    routed_scaling_factor: 2.5,
  };

  test("groups rank by their two best; weights are normalised scores without bias", () => {
    const chosen = chooseExperts(v3, logits(0.1, 0.8, 0.5, 0.6), Float64Array.of(0, 0, 0, 0));
    expect(chosen.map((c) => c.expert)).toEqual([3, 2]); // 0.5 + 0.6 is more than 0.1 + 0.8
    expect(chosen[0]!.weight).toBeCloseTo((0.6 / 1.1) * 2.5, 12);
    expect(chosen[1]!.weight).toBeCloseTo((0.5 / 1.1) * 2.5, 12);
  });

  test("the bias chooses but does not weigh", () => {
    const chosen = chooseExperts(v3, logits(0.1, 0.8, 0.5, 0.6), Float64Array.of(5, 0, 0, 0));
    expect(chosen.map((c) => c.expert)).toEqual([0, 1]);
    expect(chosen[0]!.weight).toBeCloseTo((0.1 / 0.9) * 2.5, 12);
  });

  test("experts outside the kept groups are not chosen even when biases make every score negative", () => {
    const chosen = chooseExperts(v3, logits(0.1, 0.8, 0.5, 0.6), Float64Array.of(-9, -9, -9, -9));
    expect(chosen.map((c) => c.expert)).toEqual([3, 2]);
  });
});
