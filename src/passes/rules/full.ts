/** A `full` whose elements are moved is a `full`. All exact. */
import { isOp, type Node } from "../../ir/graph.ts";
import { named, p, type Rule, rule, v } from "../../ir/pattern.ts";

const k = named("k", p("full"));
const i = v("i");

export const fulls: readonly Rule[] = [
  rule("reshape_full", p("reshape", k), ({ k }, { full }, { type }) => full(type.dtype, type.shape, k.attrs.value)),
  rule("transpose_full", p("transpose", k), ({ k }, { full }, { type }) => full(type.dtype, type.shape, k.attrs.value)),
  rule("slice_full", p("slice", k), ({ k }, { full }, { type }) => full(type.dtype, type.shape, k.attrs.value)),
  rule("broadcast_full", p("broadcast", k), ({ k }, { full }, { type }) => full(type.dtype, type.shape, k.attrs.value)),
  rule("gather_full", p("gather", k, i), ({ k }, { full }, { type }) => full(type.dtype, type.shape, k.attrs.value)),
  rule("takeAlong_full", p("takeAlong", k, i), ({ k }, { full }, { type }) =>
    full(type.dtype, type.shape, k.attrs.value),
  ),
  rule(
    "concat_full",
    named("root", p("concat")),
    ({ root }, { full }, { type }) => full(type.dtype, type.shape, constantOf(root.ins[0]!)!),
    {
      when: ({ root: { ins } }) =>
        constantOf(ins[0]!) !== undefined && ins.every((part) => Object.is(constantOf(part), constantOf(ins[0]!))),
    },
  ),
];

function constantOf(node: Node): number | undefined {
  return isOp(node, "full") ? node.attrs.value : undefined;
}
