/** Ops that only move elements: chains become one op, and what moves nothing disappears. All exact. */
import { parseAxes, showAxes } from "../../ir/axes.ts";
import type { Node } from "../../ir/graph.ts";
import { named, p, type Rule, rule, v } from "../../ir/pattern.ts";
import { type Shape, sameShape, sizeOf } from "../../ir/types.ts";

const [x, y] = [v("x"), v("y")];

const sameAsOperand = ({ x }: { x: Node }, root: Node) => sameShape(x.type.shape, root.type.shape);

/** Whether the axes that are not of size 1 keep their order. */
function keepsOrder(perm: readonly number[], shape: Shape): boolean {
  const long = perm.filter((axis) => shape[axis] !== 1);
  return long.every((axis, at) => at === 0 || long[at - 1]! < axis);
}

/** `shape` after leading ones. */
function addsLeadingOnes(from: Shape, to: Shape): boolean {
  const lead = to.length - from.length;
  return lead > 0 && to.slice(0, lead).every((dim) => dim === 1) && sameShape(to.slice(lead), from);
}

const reshapes: readonly Rule[] = [
  rule("reshape_same", p("reshape", x), ({ x }) => x, { when: sameAsOperand }),
  rule("reshape_reshape", p("reshape", p("reshape", x)), ({ x }, { reshape }, root) => reshape(x, root.attrs.shape)),
];

const transposes: readonly Rule[] = [
  rule("transpose_reshape", p("transpose", x), ({ x }, { reshape }, root) => reshape(x, root.type.shape), {
    when: ({ x }, root) => keepsOrder(root.attrs.perm, x.type.shape),
  }),
  rule("transpose_transpose", p("transpose", named("inner", p("transpose", x))), ({ x, inner }, build, root) => {
    const perm = root.attrs.perm.map((axis) => inner.attrs.perm[axis]!);
    return build.transpose(x, perm);
  }),
  rule(
    "contract_transpose_left",
    p("contract", named("t", p("transpose", x)), y),
    ({ x, t, y }, { contract }, root) => contract(untransposed(root.attrs.axes, t, 0), x, y),
    { when: ({ t }, root) => keepsSumOrder(root.attrs.axes, untransposed(root.attrs.axes, t, 0)) },
  ),
  rule(
    "contract_transpose_right",
    p("contract", y, named("t", p("transpose", x))),
    ({ x, t, y }, { contract }, root) => contract(untransposed(root.attrs.axes, t, 1), y, x),
    { when: ({ t }, root) => keepsSumOrder(root.attrs.axes, untransposed(root.attrs.axes, t, 1)) },
  ),
];

/** The signature for the operand of `t` in the place of `t`. */
function untransposed(text: string, t: Node<"transpose">, operand: number): string {
  const { ins, out } = parseAxes(text);
  const letters: string[] = [];
  for (const [to, from] of t.attrs.perm.entries()) letters[from] = ins[operand]![to]!;
  return showAxes({ ins: ins.with(operand, letters), out });
}

/** The interpreter adds in the order of the reduced axes; another order would round differently. */
function keepsSumOrder(before: string, after: string): boolean {
  return parseAxes(before).reduced.join() === parseAxes(after).reduced.join();
}

const slices: readonly Rule[] = [
  rule("slice_whole", p("slice", x), ({ x }) => x, { when: sameAsOperand }),
  rule(
    "slice_slice",
    p("slice", named("inner", p("slice", x))),
    ({ x, inner }, { slice }, { attrs: { axis, start, stop } }) =>
      slice(x, axis, inner.attrs.start + start, inner.attrs.start + stop),
    { when: ({ inner }, root) => inner.attrs.axis === root.attrs.axis },
  ),
  rule(
    "slice_concat",
    p("slice", named("parts", p("concat"))),
    ({ parts }, { slice, concat }, { attrs: { axis, start, stop } }) => {
      const { first, last, offset } = partsOf(parts, start, stop);
      return slice(concat(axis, ...parts.ins.slice(first, last + 1)), axis, start - offset, stop - offset);
    },
    {
      when: ({ parts }, { attrs: { axis, start, stop } }) => {
        if (parts.attrs.axis !== axis || start === stop) return false;
        const { first, last } = partsOf(parts, start, stop);
        return last - first + 1 < parts.ins.length;
      },
    },
  ),
  rule("slice_broadcast", p("slice", named("wide", p("broadcast", x))), ({ x, wide }, build, root) => {
    const { axis, start, stop } = root.attrs;
    const own = axis - wide.type.shape.length + x.type.shape.length;
    const repeats = own < 0 || x.type.shape[own] !== wide.type.shape[axis];
    return build.broadcast(repeats ? x : build.slice(x, own, start, stop), root.type.shape);
  }),
];

/** The parts of a concat that elements `start..stop` come from, and where the first of them starts. */
function partsOf({ ins, attrs: { axis } }: Node<"concat">, start: number, stop: number) {
  const starts: number[] = [0];
  for (const part of ins) starts.push(starts.at(-1)! + part.type.shape[axis]!);
  const first = starts.findLastIndex((at, index) => index < ins.length && at <= start);
  const last = starts.findIndex((at) => at >= stop) - 1;
  return { first, last, offset: starts[first]! };
}

const broadcasts: readonly Rule[] = [
  rule("broadcast_reshape", p("broadcast", x), ({ x }, { reshape }, root) => reshape(x, root.type.shape), {
    when: ({ x }, root) => sizeOf(x.type.shape) === sizeOf(root.type.shape), // adds axes of size 1 at most
  }),
  rule("broadcast_broadcast", p("broadcast", p("broadcast", x)), ({ x }, { broadcast }, root) =>
    broadcast(x, root.type.shape),
  ),
  rule(
    "broadcast_leading",
    p("broadcast", named("r", p("reshape", x))),
    ({ x }, build, root) => build.broadcast(x, root.type.shape),
    {
      when: ({ x, r }) => addsLeadingOnes(x.type.shape, r.type.shape),
    },
  ),
];

export const shapes: readonly Rule[] = [...reshapes, ...transposes, ...slices, ...broadcasts];
