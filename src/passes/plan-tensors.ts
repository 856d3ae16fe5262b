/**
 * Plans for targets of level `tensor`: which ops a step runs, which values are known before, and which result takes the
 * place of a parameter. Memory is the engine's business.
 */
import { type Func, isOp, type Module, type Node, nameOf } from "../ir/graph.ts";
import { opKind } from "../ir/ops/all.ts";
import type { FuncPlan, Plan, Step, TensorFunc } from "../ir/plan.ts";
import { stageOf } from "./constant.ts";

/** `weightsOf` gives the weight expressions of a function: what the loader evaluates. */
export function planTensors(module: Module, weightsOf: (func: Func) => readonly Node[]): Plan {
  const funcs = new Map<string, FuncPlan>();
  const tensors = new Map<string, TensorFunc>();
  for (const func of module.funcs.values()) {
    const weights = weightsOf(func);
    const { order, constants } = opsOf(func, new Set(weights));
    tensors.set(func.name, { func, order, constants });
    funcs.set(func.name, {
      name: func.name,
      params: func.params.map((param) => ({ name: param.attrs.name, type: param.type })),
      results: func.outs.map((out, i) => ({ name: nameOf(out) ?? `result${i}`, type: out.type })),
      donated: donatedOf(func, funcs),
      weights,
      locations: [],
      steps: callsOf(order),
      arenaBytes: 0,
    });
  }
  return { name: module.name, entry: module.entry, funcs, kernels: [], tensors };
}

/** What is left to run when weights and constants are there. */
function opsOf(func: Func, weights: ReadonlySet<Node>): { order: Node[]; constants: Node[] } {
  const order: Node[] = [];
  const constants: Node[] = [];
  const seen = new Set<Node>();
  // Operands first, on a stack of its own: graphs are deeper than JavaScript's stack.
  const stack = [...func.outs].reverse();
  while (stack.length > 0) {
    const top = stack.at(-1)!;
    const leaf = weights.has(top) || isOp(top, "param") || stageOf(top) === "constant";
    const waiting = leaf || seen.has(top) ? [] : top.ins.filter((operand) => !seen.has(operand));
    if (waiting.length > 0) {
      stack.push(...waiting.reverse());
      continue;
    }
    stack.pop();
    if (seen.has(top)) continue;
    seen.add(top);
    if (!leaf) order.push(top);
    else if (!weights.has(top) && !isOp(top, "param")) constants.push(top);
  }
  return { order, constants };
}

/** One step per call, so that whoever follows the steps meets every layer. */
function callsOf(order: readonly Node[]): Step[] {
  const calls = new Map<string, Step>();
  for (const node of order) {
    if (!isOp(node, "call")) continue;
    const { func, layer = null } = node.attrs;
    const key = `${func} ${layer} ${node.ins.map((x) => x.id)}`;
    if (!calls.has(key)) calls.set(key, { step: "call", func, layer, args: [], results: [], arena: 0 });
  }
  return [...calls.values()];
}

/** A result made by row updates of a parameter alone takes its place; each parameter's is taken once. */
function donatedOf({ params, outs }: Func, callees: ReadonlyMap<string, FuncPlan>): (number | null)[] {
  const taken = new Set<number>();
  return outs.map((out) => {
    const from = updatedBy(out, callees);
    const index = isOp(from, "param") ? params.indexOf(from) : -1;
    if (index === -1 || taken.has(index)) return null;
    taken.add(index);
    return index;
  });
}

/** The value that a chain of row updates begins with. */
function updatedBy(node: Node, callees: ReadonlyMap<string, FuncPlan>): Node {
  let at = node;
  for (;;) {
    if (opKind(at.op) === "update") {
      at = at.ins[0]!;
      continue;
    }
    if (!isOp(at, "call")) return at;
    const param = callees.get(at.attrs.func)?.donated[at.attrs.result] ?? null;
    if (param === null) return at;
    at = at.ins[param]!;
  }
}
