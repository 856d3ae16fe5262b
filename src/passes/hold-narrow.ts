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
import type { Target } from "../ir/target.ts";
import { sizeOf } from "../ir/types.ts";
import { stageOf } from "./constant.ts";
import { mapOuts, type Pass } from "./pass.ts";

/** @param least weights of fewer elements are widened when they are loaded */
export function holdNarrow(least: number): Pass {
  return {
    name: "hold-narrow",
    level: "tensor",
    exact: true,
    run: (module, { builder }) => mapOuts(module, (func) => inFunc(func, maths(builder), least)),
  };
}

/** The weight expressions without the casts that a step does itself. */
export function heldAsStored(weights: readonly Node[], { narrowWeights }: Target): readonly Node[] {
  if (narrowWeights === undefined) return weights;
  return [...new Set(weights.map((expr) => (isWidened(expr, narrowWeights) ? expr.ins[0]! : expr)))];
}

function inFunc(func: Func, build: Maths, least: number): readonly Node[] {
  return rebuild(func.outs, build.builder, (node, original) => {
    if (!isOp(node, "contract") || !isOp(original, "contract") || stageOf(original) !== "runtime") return node;
    const ins = node.ins.map((operand) => widenedLast(operand, build, least) ?? operand);
    if (ins.every((operand, i) => operand === node.ins[i])) return node;
    return keepName(original, build.builder.make("contract", ins, node.attrs));
  }).roots;
}

/** The operand of a contraction with its cast last; undefined where it is so already, or is no large weight. */
function widenedLast(operand: Node, build: Maths, least: number): Node | undefined {
  if (isOp(operand, "gather") && stageOf(operand) === "runtime") {
    const [table, index] = operand.ins as readonly [Node, Node]; // a gather has two
    const narrow = narrowOf(table, build, least);
    return narrow && build.cast(build.gather(narrow, index), "f32");
  }
  const narrow = narrowOf(operand, build, least);
  return narrow && !isWidened(operand, least) ? build.cast(narrow, "f32") : undefined;
}

/** The weight expression as it is stored, of which `expr` is the f32; undefined where there is none. */
function narrowOf(expr: Node, build: Maths, least: number): Node | undefined {
  if (stageOf(expr) !== "weight" || expr.type.dtype !== "f32" || sizeOf(expr.type.shape) < least) return undefined;
  return unwidened(expr, build);
}

function unwidened(expr: Node, build: Maths): Node | undefined {
  if (isOp(expr, "cast")) return isNarrow(expr.ins[0]!) ? expr.ins[0] : undefined;
  if (isOp(expr, "transpose")) {
    const x = unwidened(expr.ins[0]!, build);
    return x && build.transpose(x, expr.attrs.perm);
  }
  if (isOp(expr, "reshape")) {
    const x = unwidened(expr.ins[0]!, build);
    return x && build.reshape(x, expr.type.shape);
  }
  if (!isOp(expr, "concat")) return undefined;
  const parts = expr.ins.map((part) => unwidened(part, build));
  const [first] = parts;
  const same = parts.every((part) => part !== undefined && part.type.dtype === first?.type.dtype);
  return same ? build.concat(expr.attrs.axis, ...(parts as readonly Node[])) : undefined; // none is missing
}

function isNarrow({ type: { dtype } }: Node): boolean {
  return dtype === "bf16" || dtype === "f16";
}

function isWidened(expr: Node, least: number): expr is Node<"cast"> {
  return isOp(expr, "cast") && expr.type.dtype === "f32" && isNarrow(expr.ins[0]!) && sizeOf(expr.type.shape) >= least;
}
