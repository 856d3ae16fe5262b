/**
 * A model without some of its routed experts: the config that it is built from, and where its weights come from. Its gate
 * has a row per expert kept, so what is left out costs neither memory nor time, and a token still gets as many experts.
 *
 * With a sigmoid gate the others are chosen and weighed as they would be if those left out were never the best; a softmax is
 * taken over those kept. Groups stay groups: each keeps as many.
 */
import { InputError } from "../../ir/errors.ts";
import type { ModelConfig } from "./config.ts";
import type { FeedForward, MoeFeedForward } from "./feed-forward-config.ts";

/** By the layer's number: the experts kept, ascending. */
export type KeptExperts = Readonly<Record<string, readonly number[]>>;

/** @throws InputError naming the layer whose experts do not fit the config */
export function prunedConfig(config: ModelConfig, kept: KeptExperts, where = "prune experts"): ModelConfig {
  const layers = moeLayers(config);
  const extra = Object.keys(kept).find((layer) => !layers.has(Number(layer)));
  if (extra !== undefined) throw new InputError(`${where} ${extra}`, "this layer has no routed experts");
  const smaller = new Map<FeedForward, FeedForward>();
  for (const [layer, moe] of layers) {
    const own = kept[String(layer)];
    if (own === undefined) throw new InputError(`${where} ${layer}`, "missing: every layer with experts needs a list");
    checkLayer(moe, own, `${where} ${layer}`);
    smaller.set(moe, smaller.get(moe) ?? Object.freeze({ ...moe, ...sizesOf(moe, own.length) }));
  }
  const feed_forward = config.feed_forward.map((each) => smaller.get(each) ?? each);
  return Object.freeze({ ...config, feed_forward: Object.freeze(feed_forward) });
}

/** The layers with routed experts, by number. */
export function moeLayers(config: ModelConfig): Map<number, MoeFeedForward> {
  return new Map(config.feed_forward.flatMap((each, i) => (each.kind === "moe" ? [[i, each] as const] : [])));
}

/** Groups that matter: a gate that keeps some of them. Elsewhere any experts may be left out. */
export function groupsOf({ n_group, topk_group }: MoeFeedForward): number {
  return topk_group === n_group ? 1 : n_group;
}

/** Fewest experts of a layer: a token is given so many, and biased scores rank a group by its two best. */
export function leastExperts(moe: MoeFeedForward): number {
  const { num_experts_per_tok, topk_group, topk_method } = moe;
  const groups = groupsOf(moe);
  if (groups === 1) return Math.max(num_experts_per_tok, topk_method === "noaux_tc" ? 2 : 1);
  return groups * Math.max(Math.ceil(num_experts_per_tok / topk_group), topk_method === "noaux_tc" ? 2 : 1);
}

function sizesOf(
  moe: MoeFeedForward,
  count: number,
): Pick<MoeFeedForward, "n_routed_experts" | "n_group" | "topk_group"> {
  const n_group = groupsOf(moe);
  return { n_routed_experts: count, n_group, topk_group: n_group === 1 ? 1 : moe.topk_group };
}

function checkLayer(moe: MoeFeedForward, kept: readonly number[], where: string): void {
  const { n_routed_experts, num_experts_per_tok, topk_group } = moe;
  const last = kept.at(-1) ?? 0;
  if (last >= n_routed_experts) {
    throw new InputError(where, `expected numbers of experts below ${n_routed_experts}, got ${last}`);
  }
  const groups = groupsOf(moe);
  const each = kept.length / groups;
  const size = n_routed_experts / groups;
  const uneven = Array.from({ length: groups }, (_, g) => kept.filter((x) => Math.floor(x / size) === g).length);
  if (uneven.some((count) => count !== each)) {
    throw new InputError(where, `expected as many of each of ${groups} groups, got ${uneven.join(", ")}`);
  }
  const least = leastExperts(moe);
  if (kept.length < least) {
    const what = `expected at least ${least} experts, got ${kept.length}`;
    const hint = `A token is given ${num_experts_per_tok} of them${groups > 1 ? `, from ${topk_group} of ${groups} groups` : ""}.`;
    throw new InputError(where, what, { hint });
  }
}

/** Where a tensor of the pruned model is in the checkpoint: a tensor whole, or rows of one. */
export interface WeightOrigin {
  readonly name: string;
  /** Null: all. */
  readonly rows: readonly number[] | null;
}

const inLayer = /^model\.layers\.(\d+)\.mlp\.(?:experts\.(\d+)\.|gate\.(?:weight|e_score_correction_bias)$)/;

/** The origin of a tensor by the name that the pruned model has for it. */
export function originOf(name: string, kept: KeptExperts): WeightOrigin {
  const [, layer = "", expert] = inLayer.exec(name) ?? [];
  const own = Object.hasOwn(kept, layer) ? kept[layer] : undefined;
  if (own === undefined) return { name, rows: null };
  if (expert === undefined) return { name, rows: own };
  const original = own[Number(expert)];
  if (original === undefined) throw new InputError(`weight ${name}`, `expected one of ${own.length} experts`);
  return { name: name.replace(`.experts.${expert}.`, `.experts.${original}.`), rows: null };
}
