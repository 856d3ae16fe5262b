/**
 * Simplification: all rule tables and constant folding, to a fixed point. Equal expressions are one node by
 * construction, and dead ones disappear because a function is what its results depend on.
 */
import { isOp, type Node } from "../ir/graph.ts";
import { opDef, opKind } from "../ir/ops/all.ts";
import type { Rule, RuleClass } from "../ir/pattern.ts";
import { rewriter } from "../ir/rewrite.ts";
import { type Tensor, valuesOf } from "../ir/tensor.ts";
import { sizeOf } from "../ir/types.ts";
import { mapOuts, type Pass } from "./pass.ts";
import { algebra } from "./rules/algebra.ts";
import { casts } from "./rules/cast.ts";
import { concats } from "./rules/concat.ts";
import { fulls } from "./rules/full.ts";
import { gathers } from "./rules/gather.ts";
import { shapes } from "./rules/shape.ts";

/** Constants of at most so many elements are computed whole. */
const foldLimit = 16;

/**
 * Constant folding. The only constants in the IR are `full` and `iota`, so a result is folded if all its elements are
 * equal: elementwise ops of `full` operands at any size, everything else where it is small enough to compute and look.
 */
export const folding: readonly Rule[] = [
  {
    name: "fold_elementwise",
    class: "exact",
    op: undefined,
    attempt: (node, { builder, full }) => {
      if (opKind(node.op) !== "elementwise" || !node.ins.every((operand) => isOp(operand, "full"))) return undefined;
      const scalars = node.ins.map(({ attrs }) => full(attrs.dtype, [], attrs.value));
      return uniform(builder.make(node.op, scalars, node.attrs), node, full);
    },
  },
  {
    name: "fold_small",
    class: "exact",
    op: undefined,
    attempt: (node, { full }) => {
      const small = (each: Node) => sizeOf(each.type.shape) <= foldLimit;
      const known = (operand: Node) => small(operand) && (isOp(operand, "full") || isOp(operand, "iota"));
      const folds = small(node) && !isOp(node, "full") && node.op !== "call" && node.op !== "param";
      return folds && node.ins.every(known) ? uniform(node, node, full) : undefined;
    },
  },
];

type Full = (dtype: Node["type"]["dtype"], shape: Node["type"]["shape"], value: number) => Node;

/** The value of `constant` spread over the type of `node`, if its elements are all the same. */
function uniform(constant: Node, node: Node, full: Full): Node | undefined {
  const tensor = evaluateConstant(constant);
  if (tensor === undefined) return undefined;
  const [first = 0, ...rest] = valuesOf(tensor);
  return rest.every((value) => Object.is(value, first)) ? full(node.type.dtype, node.type.shape, first) : undefined;
}

/** Evaluates a node whose operands are sources; undefined for a weight. */
function evaluateConstant(node: Node): Tensor | undefined {
  const operands = node.ins.map((operand) => evaluateConstant(operand)!);
  return opDef(node.op).evaluate?.(operands, node.attrs, node.type);
}

export const simplifyRules: readonly Rule[] = [
  ...folding,
  ...fulls,
  ...algebra,
  ...shapes,
  ...concats,
  ...gathers,
  ...casts,
];

export interface SimplifyOptions {
  /** Classes of rules beyond `exact`. */
  readonly allow?: readonly Exclude<RuleClass, "exact">[];
}

export function simplify({ allow = [] }: SimplifyOptions = {}): Pass {
  const rules = simplifyRules.filter((rule) => rule.class === "exact" || allow.includes(rule.class));
  return {
    name: "simplify",
    level: "tensor",
    exact: allow.length === 0,
    run: (module, { builder, disabledRules, onMatch }) => {
      const rewrite = rewriter(rules, builder, { disabled: disabledRules, onMatch });
      return mapOuts(module, (func) => rewrite(func.outs));
    },
  };
}
