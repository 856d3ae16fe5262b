/** Four elements of a contraction's operand that lie beside each other in memory, read together. */
import type { Node } from "../../ir/graph.ts";
import { cast, type Expr, intrinsic, op, type Ref, ref, splat } from "../../ir/kernel/kernel.ts";
import { strideIn } from "../../ir/kernel/linear.ts";
import { valueType } from "../../ir/kernel/value.ts";
import { type Index, indexOf, type Nest, read } from "./contract-nest.ts";

const four = 4;

/** How many elements along `axes` are read at once: four where all of these operands have them so, or one. */
export function lanesAlong(
  nest: Nest,
  axes: readonly string[],
  operands: readonly (readonly [Node, readonly string[]])[],
): 1 | 4 {
  const { w } = nest;
  const count = axes.reduce((product, axis) => product * nest.sizes.get(axis)!, 1);
  const inFours = ([node, own]: readonly [Node, readonly string[]]) => {
    const at = ref(w.unique("probe")) as Ref; // made by `ref`
    const others = own.map((axis): readonly [string, Expr] => [axis, ref(`${at.name}_${axis}`)]);
    let wide: Expr | undefined;
    const stmts = w.nested(() => {
      wide = widened(read(nest, node, own, new Map(others), indexOf(nest, axes, at)), at.name);
    }, [at.name]);
    return wide !== undefined && stmts.length === 0;
  };
  return count % four === 0 && operands.every(inFours) ? four : 1;
}

/** The element at `at`, or it and the next three where `at`, of `axes`, is a multiple of four and `lanes` is four. */
export function readLanes(
  nest: Nest,
  [node, own]: readonly [Node, readonly string[]],
  lanes: 1 | 4,
  { at, axes }: { readonly at: Ref; readonly axes: readonly string[] },
  ...parts: readonly Index[]
): Expr {
  const element = read(nest, node, own, ...parts, indexOf(nest, axes, at));
  return lanes === 1 ? element : widened(element, at.name)!; // as `lanesAlong` found
}

/** The values of an expression at a multiple of four and the three that follow; undefined where they are not loaded at once. */
function widened(expr: Expr, name: string): Expr | undefined {
  if (expr.k === "load") {
    const stride = strideIn(expr.index, name, four);
    if (stride === 0) return splat(expr, four);
    return stride === 1 ? { ...expr, type: valueType(expr.type.dtype, four) } : undefined;
  }
  if (expr.k === "cast") {
    const value = widened(expr.value, name);
    return value && cast(expr.type.dtype, value);
  }
  if (expr.k !== "op" && expr.k !== "intrinsic") return expr.k === "num" ? splat(expr, four) : undefined;
  const args = expr.args.map((arg) => widened(arg, name));
  if (!args.every((arg) => arg !== undefined) || (expr.k === "op" && !arithmetic.has(expr.op))) return undefined;
  return expr.k === "op" ? op(expr.op, ...args) : expr.name === "finite" ? intrinsic(expr.name, ...args) : undefined;
}

/** What vectors are computed by as numbers are. */
const arithmetic: ReadonlySet<string> = new Set(["add", "sub", "mul"]);
