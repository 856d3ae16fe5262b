/** Concatenations: nested ones become flat, and neighbouring slices of one tensor become one slice. All exact. */
import type { Maths } from "../../ir/build.ts";
import { isOp, type Node } from "../../ir/graph.ts";
import { named, p, type Rule, rule, v } from "../../ir/pattern.ts";

const x = v("x");

export const concats: readonly Rule[] = [
  rule("concat_one", p("concat", x), ({ x }) => x),
  rule(
    "concat_concat",
    named("root", p("concat")),
    ({ root }, { concat }) =>
      concat(root.attrs.axis, ...root.ins.flatMap((part) => (sameConcat(root, part) ? part.ins : [part]))),
    { when: ({ root }) => root.ins.some((part) => sameConcat(root, part)) },
  ),
  // Slices that follow each other in x are one slice of x.
  rule("concat_slices", named("root", p("concat")), ({ root }, build) => joinSlices(root, build), {
    when: ({ root }) => root.ins.some((part, at) => at > 0 && follows(root, root.ins[at - 1]!, part)),
  }),
  rule(
    "concat_cast_slices",
    named("root", p("concat")),
    ({ root }, { concat, cast }) =>
      cast(concat(root.attrs.axis, ...root.ins.map((part) => part.ins[0]!)), root.type.dtype),
    {
      // Only where the slices become one, so that no concat of a narrow dtype is left.
      when: ({ root: { ins }, root }) =>
        ins.length > 1 &&
        ins.every((part) => isOp(part, "cast")) &&
        ins.every((part, at) => at === 0 || follows(root, ins[at - 1]!.ins[0]!, part.ins[0]!)),
    },
  ),
];

function sameConcat(root: Node<"concat">, part: Node): boolean {
  return isOp(part, "concat") && part.attrs.axis === root.attrs.axis;
}

function follows({ attrs: { axis } }: Node<"concat">, left: Node, right: Node): boolean {
  if (!isOp(left, "slice") || !isOp(right, "slice") || left.ins[0] !== right.ins[0]) return false;
  return left.attrs.axis === axis && right.attrs.axis === axis && left.attrs.stop === right.attrs.start;
}

function joinSlices(root: Node<"concat">, { slice, concat }: Maths): Node {
  const parts: Node[] = [];
  for (const part of root.ins) {
    const left = parts.at(-1);
    if (left !== undefined && follows(root, left, part) && isOp(left, "slice") && isOp(part, "slice")) {
      parts[parts.length - 1] = slice(left.ins[0]!, root.attrs.axis, left.attrs.start, part.attrs.stop);
    } else parts.push(part);
  }
  return concat(root.attrs.axis, ...parts);
}
