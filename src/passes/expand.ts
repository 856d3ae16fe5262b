/**
 * Expansions: what each composite op is in terms of primitive ops. One table with one entry per composite op, which
 * fails to compile when one is missing. The op's own `evaluate` says the same in plain loops; a property test compares.
 */
import { lastDim, type Maths, maths } from "../ir/build.ts";
import { type Node, named, rebuild } from "../ir/graph.ts";
import type { CompositeOp, OpName } from "../ir/ops/all.ts";
import { keepName } from "../ir/rewrite.ts";
import { noComposites } from "../ir/verify.ts";
import { mapOuts, type Pass } from "./pass.ts";

type Expand<N extends CompositeOp> = (node: Node<N>, build: Maths) => Node;

export const expansions = {
  silu: ({ ins: [x] }, { mul, sigmoid }) => mul(x!, sigmoid(x!)),

  softmax: ({ ins: [x] }, { div, exp, expandLast, reduceMax, reduceSum, sub }) => {
    const powers = exp(sub(x!, expandLast(reduceMax(x!))));
    return div(powers, expandLast(reduceSum(powers)));
  },

  rmsNorm: ({ ins: [x, w], attrs: { eps } }, { add, cast, div, expandLast, mul, reduceSum, rsqrt }) => {
    const meanSquare = div(reduceSum(mul(x!, x!)), lastDim(x!));
    return mul(mul(x!, expandLast(rsqrt(add(meanSquare, eps)))), cast(w!, "f32"));
  },

  /** Pairs become an axis of size 2, last where interleaved, else before the halves, and rotate by complex product. */
  rope: ({ ins: [x, cos, sin], attrs: { interleaved } }, { add, concat, mul, reshape, slice, sub }) => {
    const [n, h, d] = dims(x!);
    const pairs = reshape(x!, interleaved ? [n!, h!, d! / 2, 2] : [n!, h!, 2, d! / 2]);
    const axis = interleaved ? 3 : 2;
    const table = (angles: Node) => reshape(angles, interleaved ? [n!, 1, d! / 2, 1] : [n!, 1, 1, d! / 2]);
    const [a, b] = [slice(pairs, axis, 0, 1), slice(pairs, axis, 1, 2)];
    const [c, s] = [table(cos!), table(sin!)];
    return reshape(concat(axis, sub(mul(a, c), mul(b, s)), add(mul(b, c), mul(a, s))), x!.type.shape);
  },

  /**
   * n tokens, b sequences of s keys, g key heads each shared by r query heads, d and e head dims. Keys and values
   * beyond a token's position get weight 0, so they must be finite (a cache is zeroed when it is made).
   */
  attention: ({ ins: [q, k, v, positions, sequence], attrs: { scale } }, build) => {
    const { contract, div, exp, expandLast, full, gather, iota, le, max, mul } = build;
    const { reduceMax, reduceSum, reshape, select, sub } = build;
    const [n, h, d] = dims(q!);
    const [b, s, g, e] = dims(v!);
    // One sequence is read in place; of several, each token gathers its own: [n, s, g, d].
    const ofToken = (x: Node) => (b === 1 ? reshape(x, dims(x).slice(1)) : gather(x, sequence!));
    const lead = b === 1 ? "" : "n ";
    const scores = contract(`n g r d, ${lead}s g d -> n g r s`, reshape(q!, [n!, g!, h! / g!, d!]), ofToken(k!));
    const scaled = named("scores", mul(scores, scale));
    const visible = reshape(le(iota("i32", [n!, s!], 1), expandLast(positions!)), [n!, 1, 1, s!]);
    const most = expandLast(
      reduceMax(select(visible, scaled, full("f32", scaled.type.shape, Number.NEGATIVE_INFINITY))),
    );
    const powers = named("powers", select(visible, exp(sub(scaled, most)), 0));
    // The largest visible score adds exp(0) = 1 to the total, so `max` changes it only where nothing is visible.
    const total = expandLast(max(reduceSum(powers), 1));
    const sums = contract(`n g r s, ${lead}s g e -> n g r e`, powers, ofToken(v!));
    return reshape(div(sums, total), [n!, h!, e!]);
  },
} as const satisfies { [N in CompositeOp]: Expand<N> };

/** The expansion of a composite node, or the node itself. */
export function expandNode(node: Node, build: Maths): Node {
  if (!isComposite(node.op)) return node;
  // The table's entry for an op takes nodes of that op, which TypeScript cannot correlate across the union.
  const expand = expansions[node.op] as (node: Node, build: Maths) => Node;
  return keepName(node, expand(node, build));
}

export interface ExpandOptions {
  /** Composite ops that have a lowering of their own and stay. */
  readonly keep?: readonly CompositeOp[];
}

/** Replaces composite ops by their expansions; rounding differs, because an expansion rounds after each op. */
export function expand({ keep = [] }: ExpandOptions = {}): Pass {
  return {
    name: "expand",
    level: "tensor",
    exact: false,
    gives: [noComposites(new Set(keep))],
    run: (module, { builder }) => {
      const build = maths(builder);
      const change = (node: Node) => (keeps(keep, node.op) ? node : expandNode(node, build));
      return mapOuts(module, (func) => rebuild(func.outs, builder, change).roots);
    },
  };
}

function isComposite(op: OpName): op is CompositeOp {
  return Object.hasOwn(expansions, op);
}

function keeps(keep: readonly OpName[], op: OpName): boolean {
  return keep.includes(op);
}

function dims(node: Node): readonly number[] {
  return node.type.shape;
}
