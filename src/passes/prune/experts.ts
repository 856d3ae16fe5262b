/** Which routed experts to keep: those that the gate gave most weight on sample text, as many in every layer. */
import { InputError, invariant } from "../../ir/errors.ts";
import type { KeptExperts } from "./policy.ts";

/** What the gates of a model did on sample text. */
export interface ExpertUse {
  readonly tokens: number;
  /** By the layer's number. */
  readonly layers: Readonly<Record<string, LayerUse>>;
}

export interface LayerUse {
  /** How many tokens each expert was chosen for. */
  readonly chosen: readonly number[];
  /** The sum of the weights that it was given. */
  readonly weight: readonly number[];
}

/** Either how many experts a layer keeps, or the share of a layer's weight below which an expert is left out. */
export type ExpertWish = { readonly count: number } | { readonly threshold: number };

export interface ExpertLimits {
  /** Equal runs of experts of which as many stay in each; 1 where any may go. */
  readonly groups: number;
  /** Fewest experts a layer needs. */
  readonly least: number;
}

/** What is kept, and how much of the weight that the gates gave it had. */
export interface ExpertChoice {
  readonly experts: KeptExperts;
  /** Of each layer: the share of the weight that the experts kept had. */
  readonly share: Readonly<Record<string, number>>;
}

/**
 * Layers share one compiled function, so all keep as many: with a threshold as many as the layer with most above it. What
 * is left out is never more than was asked for: a layer with fewer above the threshold keeps its next best too.
 */
export function chooseExperts(use: ExpertUse, wish: ExpertWish, { groups, least }: ExpertLimits): ExpertChoice {
  const layers = Object.entries(use.layers).map(([layer, { weight }]) => ({ layer, shares: sharesOf(weight) }));
  const [first] = layers;
  if (first === undefined) throw new InputError("prune", "the model has no routed experts");
  const all = first.shares.length;
  const wanted =
    "count" in wish ? checkCount(wish.count, all) : countAbove(layers, checkThreshold(wish.threshold), groups);
  const count = Math.max(wanted, least);
  if (count % groups !== 0) {
    const hint = `For example ${Math.max(least, Math.ceil(count / groups) * groups)}.`;
    throw new InputError("prune experts", `expected a multiple of ${groups}, the groups of the gate, got ${count}`, {
      hint,
    });
  }
  if ("count" in wish && wish.count < least) {
    throw new InputError("prune experts", `expected at least ${least}, which the gate chooses from, got ${wish.count}`);
  }
  const size = all / groups;
  const experts = layers.map(({ layer, shares }) => {
    const kept = Array.from({ length: groups }, (_, g) => best(shares, g * size, size, count / groups)).flat();
    return [layer, kept.sort((a, b) => a - b)] as const;
  });
  const share = experts.map(([layer, kept], i) => [layer, kept.reduce((sum, e) => sum + layers[i]!.shares[e]!, 0)]);
  return { experts: Object.fromEntries(experts), share: Object.fromEntries(share) };
}

function checkCount(count: number, all: number): number {
  if (Number.isInteger(count) && count >= 1 && count <= all) return count;
  throw new InputError("prune experts", `expected a whole number from 1 to ${all}, got ${count}`);
}

function checkThreshold(threshold: number): number {
  if (threshold >= 0 && threshold <= 1) return threshold;
  throw new InputError("prune threshold", `expected a share from 0 to 1, got ${threshold}`);
}

/** As many of each group as the fullest needs. */
function countAbove(
  layers: readonly { readonly shares: readonly number[] }[],
  threshold: number,
  groups: number,
): number {
  const counts = layers.flatMap(({ shares }) => {
    const size = shares.length / groups;
    return Array.from(
      { length: groups },
      (_, g) => shares.slice(g * size, (g + 1) * size).filter((each) => each >= threshold).length,
    );
  });
  return Math.max(...counts) * groups;
}

function sharesOf(weight: readonly number[]): number[] {
  const total = weight.reduce((sum, each) => sum + each, 0);
  invariant(Number.isFinite(total), () => "weights of experts are not finite");
  return weight.map((each) => (total === 0 ? 1 / weight.length : each / total));
}

/** Numbers of the largest of a run of shares; of equals the first. */
function best(shares: readonly number[], from: number, size: number, count: number): number[] {
  const numbers = Array.from({ length: size }, (_, i) => from + i);
  return numbers.sort((a, b) => shares[b]! - shares[a]! || a - b).slice(0, count);
}
