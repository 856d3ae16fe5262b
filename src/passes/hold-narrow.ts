/**
 * Large weights that a checkpoint stores in 16 bits stay so, and are widened where a step reads them: the loader would make
 * f32 of them, which is twice the memory and twice the bytes to read. Exact, as every bf16 and f16 is an f32.
 *
 * The cast of a weight that a contraction reads moves out, past whatever only moves elements (orienting, stacking), so that
 * it is the last thing that is done to it; where rows of the weight are chosen, past the choice. `heldAsStored` then keeps
 * what is below the cast.
 */
import { type Maths, maths } from "../ir/build.ts";
import { type Func, isOp, type Node, rebuild } from "../ir/graph.ts";
import { keepName } from "../ir/rewrite.ts";
import type { NarrowWeights } from "../ir/target.ts";
import { sizeOf } from "../ir/types.ts";
import { stageOf } from "./constant.ts";
import { mapOuts, type Pass } from "./pass.ts";
import { planExpression, type QuantizeOptions } from "./quantize/policy.ts";

/** Which weights stay as they are stored, by their expression as it is stored and as f32. */
interface Holds {
  readonly stored: (narrow: Node) => boolean;
  readonly wide: (expr: Node) => boolean;
}

/** The name by which it can be disabled. */
export const holdPass = "hold-narrow";

/** @param policy weights that it wants in f32 are widened when they are loaded */
export function holdNarrow(narrow: NarrowWeights, policy?: QuantizeOptions): Pass {
  const holds = holdsBy(narrow, policy);
  return {
    name: holdPass,
    level: "tensor",
    exact: true,
    run: (module, { builder }) => mapOuts(module, (func) => inFunc(func, maths(builder), holds)),
  };
}

/** The weight expressions without the casts that a step does itself. */
export function heldAsStored(
  weights: readonly Node[],
  narrow: NarrowWeights | null,
  policy?: QuantizeOptions,
): readonly Node[] {
  if (narrow === null) return weights;
  const { stored, wide } = holdsBy(narrow, policy);
  const held = (expr: Node) => isOp(expr, "cast") && stored(expr.ins[0]!) && wide(expr);
  return [...new Set(weights.map((expr) => (held(expr) ? expr.ins[0]! : expr)))];
}

function holdsBy({ dtypes, least }: NarrowWeights, policy: QuantizeOptions | undefined): Holds {
  const inF32 = (expr: Node) => policy !== undefined && planExpression(expr, policy).format === "f32";
  return {
    stored: ({ type }) => dtypes.includes(type.dtype),
    // Norms and biases are few bytes.
    wide: (expr) => {
      const { dtype, shape } = expr.type;
      return dtype === "f32" && shape.length > 1 && sizeOf(shape) >= least && !inF32(expr);
    },
  };
}

function inFunc(func: Func, build: Maths, holds: Holds): readonly Node[] {
  return rebuild(func.outs, build.builder, (node, original) => {
    if (!isOp(node, "contract") || !isOp(original, "contract") || stageOf(original) !== "runtime") return node;
    const ins = node.ins.map((operand) => widenedLast(operand, build, holds) ?? operand);
    if (ins.every((operand, i) => operand === node.ins[i])) return node;
    return keepName(original, build.builder.make("contract", ins, node.attrs));
  }).roots;
}

/** The operand of a contraction with its cast last; undefined where it is so already, or is no weight that is held so. */
function widenedLast(operand: Node, build: Maths, holds: Holds): Node | undefined {
  if (isOp(operand, "gather") && stageOf(operand) === "runtime") {
    const [table, index] = operand.ins as readonly [Node, Node]; // a gather has two
    const narrow = narrowOf(table, build, holds);
    return narrow && build.cast(build.gather(narrow, index), "f32");
  }
  const narrow = narrowOf(operand, build, holds);
  const wide = narrow && build.cast(narrow, "f32");
  return wide === operand ? undefined : wide;
}

/** The weight expression as it is stored, of which `expr` is the f32; undefined where there is none. */
function narrowOf(expr: Node, build: Maths, holds: Holds): Node | undefined {
  return stageOf(expr) === "weight" && holds.wide(expr) ? unwidened(expr, build, holds) : undefined;
}

function unwidened(expr: Node, build: Maths, holds: Holds): Node | undefined {
  if (isOp(expr, "cast")) return holds.stored(expr.ins[0]!) ? expr.ins[0] : undefined;
  if (isOp(expr, "transpose")) {
    const x = unwidened(expr.ins[0]!, build, holds);
    return x && build.transpose(x, expr.attrs.perm);
  }
  if (isOp(expr, "reshape")) {
    const x = unwidened(expr.ins[0]!, build, holds);
    return x && build.reshape(x, expr.type.shape);
  }
  if (!isOp(expr, "concat")) return undefined;
  const parts = expr.ins.map((part) => unwidened(part, build, holds));
  const [first] = parts;
  const same = parts.every((part) => part !== undefined && part.type.dtype === first?.type.dtype);
  return same ? build.concat(expr.attrs.axis, ...(parts as readonly Node[])) : undefined; // none is missing
}
