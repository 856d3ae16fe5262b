/**
 * The interpreter: runs a module op by op with each op's own `evaluate`. Slow, plain, and the definition of meaning.
 * Several devices in step are `interpretRanks` (interpret-ranks.ts).
 */
import { IrError, invariant } from "./errors.ts";
import { attrsOf, type Func, getFunc, isOp, type Module, type Node, topoOrder, usersOf } from "./graph.ts";
import { opDef } from "./ops/all.ts";
import type { Tensor } from "./tensor.ts";
import { sameType, showType } from "./types.ts";
import { readWeight, type WeightSource } from "./weight.ts";

export interface InterpretOptions {
  readonly weights?: WeightSource;
  /** Called with each node's value, for debugging and calibration. */
  readonly observe?: (node: Node, value: Tensor) => void;
}

/** Runs the entry function on `inputs` and returns its results. */
export function interpret(module: Module, inputs: readonly Tensor[], options: InterpretOptions = {}): Tensor[] {
  return interpretFunc(module, getFunc(module, module.entry), inputs, options);
}

/** Runs one function on a single device; `layer` binds `{layer}` in the names of weights. */
export function interpretFunc(
  module: Module,
  func: Func,
  inputs: readonly Tensor[],
  options: InterpretOptions,
  layer?: number,
): Tensor[] {
  const run = stepsOf(module, func, inputs, options, layer);
  let step = run.next();
  while (step.done !== true) step = run.next(alone(step.value));
  return step.value;
}

/** A device at a collective: what it has; it goes on with what it gets. */
export interface Exchange {
  readonly node: Node;
  /** Missing where it only receives. */
  readonly operand: Tensor | undefined;
}

/** A collective of one device. */
function alone({ node, operand }: Exchange): Tensor {
  const { across } = opDef(node.op);
  const { parts } = attrsOf(node);
  if (across === undefined || operand === undefined || parts !== 1) {
    throw new IrError(node.op, "it needs other devices", { hint: "A divided program is run by interpretRanks." });
  }
  return across([operand], attrsOf(node), node.type)[0]!;
}

/** Runs one function; stops at every collective and goes on with its result. */
export function* stepsOf(
  module: Module,
  func: Func,
  inputs: readonly Tensor[],
  options: InterpretOptions,
  layer?: number,
): Generator<Exchange, Tensor[], Tensor> {
  if (inputs.length !== func.params.length) {
    throw new IrError(`@${func.name}`, `expected ${func.params.length} inputs, got ${inputs.length}`);
  }
  const values = new Map<Node, Tensor>();
  for (const [i, param] of func.params.entries()) {
    if (!sameType(param.type, inputs[i]!.type)) {
      const found = showType(inputs[i]!.type);
      throw new IrError(`@${func.name}`, `input ${param.attrs.name}: expected ${showType(param.type)}, got ${found}`);
    }
    values.set(param, inputs[i]!);
  }
  const order = topoOrder(func.outs);
  const uses = new Map([...usersOf(order)].map(([node, users]) => [node, users.length]));
  for (const out of func.outs) uses.set(out, Number.POSITIVE_INFINITY);
  const calls = new Map<string, Tensor[]>();

  const callResult = function* (node: Node<"call">): Generator<Exchange, Tensor, Tensor> {
    const { func: name, layer: bound, result } = node.attrs;
    const key = `${name} ${bound} ${node.ins.map((x) => x.id)}`;
    let results = calls.get(key);
    if (results === undefined) {
      const args = node.ins.map((x) => values.get(x)!);
      results = yield* stepsOf(module, getFunc(module, name), args, options, bound);
      calls.set(key, results);
    }
    invariant(results[result] !== undefined, () => `@${name} has no result ${result}`);
    return results[result];
  };

  const evaluate = function* (node: Node): Generator<Exchange, Tensor, Tensor> {
    if (isOp(node, "call")) return yield* callResult(node);
    if (isOp(node, "param"))
      throw new IrError(`@${func.name}`, `${node.attrs.name} is not a parameter of the function`);
    if (isOp(node, "weight")) {
      if (options.weights === undefined)
        throw new IrError(`weight ${node.attrs.name}`, "no source of weights was given");
      return readWeight(node.attrs.name, node.type, options.weights, layer);
    }
    const { evaluate: run, across, transfer } = opDef(node.op);
    if (across !== undefined || transfer !== undefined) {
      const [operand] = node.ins;
      return yield { node, operand: operand && values.get(operand) };
    }
    invariant(run !== undefined, () => `op ${node.op} has no evaluate`);
    return run(
      node.ins.map((x) => values.get(x)!),
      attrsOf(node),
      node.type,
    );
  };

  for (const node of order) {
    if (!values.has(node)) values.set(node, yield* evaluate(node));
    options.observe?.(node, values.get(node)!);
    for (const operand of node.ins) {
      const left = uses.get(operand)! - 1;
      uses.set(operand, left);
      if (left === 0) values.delete(operand);
    }
  }
  return func.outs.map((out) => values.get(out)!);
}
