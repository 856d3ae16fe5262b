/**
 * Expansions: what each composite op is in terms of primitive ops. One table with one entry per composite op, which
 * fails to compile when one is missing. The op's own `evaluate` says the same in plain loops; a property test compares.
 */
import { lastDim, type Maths, maths } from "../ir/build.ts";
import { type Node, named, rebuild } from "../ir/graph.ts";
import type { CompositeOp, OpName } from "../ir/ops/all.ts";
import { lowestScore } from "../ir/ops/attention.ts";
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

  attention: (node, build) => {
    const { contract, div, exp, expandLast, full, max, reduceMax, reduceSum, reshape, select, sub } = build;
    const { scaled, visible, values, read } = scoresOf(node, build);
    const most = expandLast(
      reduceMax(select(visible, scaled, full("f32", scaled.type.shape, Number.NEGATIVE_INFINITY))),
    );
    const powers = named("powers", select(visible, exp(sub(scaled, most)), 0));
    // The largest visible score adds exp(0) = 1 to the total, so `max` changes it only where nothing is visible.
    const total = expandLast(max(reduceSum(powers), 1));
    return reshape(div(contract(`n g r s, ${read} e -> n g r e`, powers, values), total), node.type.shape);
  },

  /** The same with an axis of p parts, to which other parts' keys are as if they were not visible. */
  attentionParts: (node, build) => {
    const { add, and, concat, contract, eq, exp, expandLast, full, iota, mul } = build;
    const { reduceMax, reduceSum, reshape, select, sub } = build;
    const { parts: p, block } = node.attrs;
    const { scaled, visible, values, read } = scoresOf(node, build);
    const [n, g, r, s] = dims(scaled);
    // Part floor(t / block) % p has key t.
    const dealt = iota("i32", [Math.ceil(s! / block), block], 0);
    const turns = build.slice(reshape(dealt, [Math.ceil(s! / block) * block]), 0, 0, s!);
    const own = eq(reshape(build.rem(turns, p), [1, s!]), iota("i32", [p, s!], 0));
    const seen = and(reshape(visible, [n!, 1, 1, s!]), reshape(own, [1, 1, p, s!]));
    const [h, e] = [g! * r!, lastDim(values)];
    // Of four axes at most: there are engines that repeat no more.
    const shape = [n!, h, p, s!];
    const scores = add(reshape(scaled, [n!, h, 1, s!]), full("f32", shape, 0));
    const most = reduceMax(select(seen, scores, full("f32", shape, lowestScore)));
    const powers = mul(select(seen, exp(sub(scores, expandLast(most))), 0), full("f32", shape, 1));
    const sums = contract(`n g r p s, ${read} e -> n g r p e`, reshape(powers, [n!, g!, r!, p, s!]), values);
    return concat(3, reshape(sums, [n!, h, p, e]), expandLast(most), expandLast(reduceSum(powers)));
  },

  mergeParts: ({ ins: [x], type }, { contract, div, exp, expandLast, max, reduceMax, reshape, slice, sub }) => {
    const [n, h, p, width] = dims(x!);
    const e = type.shape[2]!;
    const most = reshape(slice(x!, 3, e, e + 1), [n!, h!, p!]);
    const scale = exp(sub(most, expandLast(reduceMax(most))));
    const sum = (from: number, to: number) => contract("n h p, n h p j -> n h j", scale, slice(x!, 3, from, to));
    return div(sum(0, e), max(sum(e + 1, width!), 1));
  },
} as const satisfies { [N in CompositeOp]: Expand<N> };

interface Scores {
  /** f32[n, g, r, s], and whether the token sees the key, [n, 1, 1, s]. */
  readonly scaled: Node;
  readonly visible: Node;
  /** The values of each token, and their axes but the last. */
  readonly values: Node;
  readonly read: string;
}

/**
 * n tokens, b sequences of s keys, g key heads each shared by r query heads, d and e head dims. Keys and values
 * beyond a token's position get weight 0, so they must be finite (a cache is zeroed when it is made).
 */
function scoresOf(
  { ins: [q, k, v, positions, sequence], attrs: { scale } }: Node<"attention"> | Node<"attentionParts">,
  { contract, expandLast, gather, iota, le, mul, reshape }: Maths,
): Scores {
  const [n, h, d] = dims(q!);
  const [b, s, g] = dims(v!);
  // One sequence is read in place; of several, each token gathers its own: [n, s, g, d].
  const ofToken = (x: Node) => (b === 1 ? reshape(x, dims(x).slice(1)) : gather(x, sequence!));
  const read = `${b === 1 ? "" : "n "}s g`;
  const scores = contract(`n g r d, ${read} d -> n g r s`, reshape(q!, [n!, g!, h! / g!, d!]), ofToken(k!));
  const visible = reshape(le(iota("i32", [n!, s!], 1), expandLast(positions!)), [n!, 1, 1, s!]);
  return { scaled: named("scores", mul(scores, scale)), visible, values: ofToken(v!), read };
}

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
