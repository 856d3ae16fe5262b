/**
 * Which values are known before a step runs. `constant`: made of `full` and `iota` alone, known to the compiler.
 * `weight`: depends on weights and constants alone, evaluated once by the loader. `runtime`: everything else.
 */
import { type Func, isOp, type Node, topoOrder } from "../ir/graph.ts";
import { opDef, opKind } from "../ir/ops/all.ts";
import { sizeOf } from "../ir/types.ts";

export type Stage = "constant" | "weight" | "runtime";

/** Nodes are immutable, so the stage is a property of the node and is kept for as long as the node. */
const stages = new WeakMap<Node, Stage>();

export function stageOf(node: Node): Stage {
  // Operands first, on a stack of its own, and only those not decided yet.
  const stack = stages.has(node) ? [] : [node];
  while (stack.length > 0) {
    const top = stack.at(-1)!;
    const undecided = top.ins.find((operand) => !stages.has(operand));
    if (undecided !== undefined) stack.push(undecided);
    else {
      stages.set(top, decide(top));
      stack.pop();
    }
  }
  return stages.get(node)!;
}

function decide(node: Node): Stage {
  if (node.op === "param" || node.op === "call") return "runtime";
  if (node.op === "weight") return "weight";
  // What other devices have is known when they run; which part is a device's own, when its program is made (localize).
  if (opKind(node.op) === "collective" || opDef(node.op).transfer !== undefined) return "runtime";
  if (node.ins.length === 0) return "constant";
  const operands = node.ins.map((operand) => stages.get(operand)!);
  if (operands.every((stage) => stage === "constant")) return "constant";
  return operands.includes("runtime") || grows(node) ? "runtime" : "weight";
}

/**
 * Evaluated at load time it would take more memory than what it is made of: a broadcast, an outer product, codes times
 * scales. So a quantised weight is held as codes and scales, which are weight expressions each.
 */
function grows(node: Node): boolean {
  if (opDef(node.op).unpacks === true) return true;
  const operands = node.ins.reduce((sum, operand) => sum + sizeOf(operand.type.shape), 0);
  return node.op === "broadcast" || sizeOf(node.type.shape) > operands;
}

/** Whether the loader (or the compiler, for constants) can evaluate the node before any step. */
export function isFoldable(node: Node): boolean {
  return stageOf(node) !== "runtime";
}

/**
 * The weight expressions of a function: the largest nodes of stage `weight`, those that a runtime node or the caller
 * reads. Operands before users. The loader evaluates each once per layer and the kernels see them as inputs. A reshape on
 * top is left to the kernels, which it costs nothing: a weight is the same whatever shape a bucket reads it in.
 */
export function weightExpressions(func: Func): Node[] {
  const order = topoOrder(func.outs);
  const read = new Set<Node>(func.outs);
  for (const node of order) {
    if (stageOf(node) !== "runtime") continue;
    // Arguments of calls and rows to update are read from memory as they are.
    const whole = opKind(node.op) === "update" || isOp(node, "call");
    for (const operand of node.ins) read.add(whole ? operand : belowReshapes(operand));
  }
  return order.filter((node) => read.has(node) && stageOf(node) === "weight");
}

function belowReshapes(node: Node): Node {
  let below = node;
  while (isOp(below, "reshape")) below = below.ins[0]!;
  return below;
}
