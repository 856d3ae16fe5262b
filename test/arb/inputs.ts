/** Random inputs and weights for a module, and a run of the interpreter on them. */
import fc from "fast-check";
import { showNumber } from "../../src/ir/attrs.ts";
import { type Func, getFunc, isOp, type Module, topoOrder } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { type Tensor, tensorOf, valuesOf } from "../../src/ir/tensor.ts";
import { dtypeInfo, isFloat, showType, sizeOf, type TensorType, tensorType } from "../../src/ir/types.ts";
import { type WeightSource, weightParts } from "../../src/ir/weight.ts";
import { arbFloat } from "./program.ts";

export interface Inputs {
  readonly inputs: readonly Tensor[];
  readonly weights: WeightSource;
}

/** Tensors of a type; integers are mostly small, so that they serve as indices and slots, some of them outside. */
export function arbTensor(type: TensorType, finite = false): fc.Arbitrary<Tensor> {
  const length = sizeOf(type.shape);
  return fc
    .array(arbValue(type, finite), { minLength: length, maxLength: length })
    .map((values) => tensorOf(type.dtype, type.shape, values));
}

function arbValue({ dtype }: TensorType, finite: boolean): fc.Arbitrary<number> {
  if (dtype === "f8e8m0") return fc.integer({ min: -3, max: 3 }).map((exponent) => 2 ** exponent);
  if (isFloat(dtype)) return arbFloat(finite);
  const [min, max] = dtypeInfo(dtype).range!;
  const small = fc.integer({ min: Math.max(min, -2), max: Math.min(max, 4) });
  return fc.oneof({ weight: 4, arbitrary: small }, { weight: 1, arbitrary: fc.integer({ min, max }) });
}

/** Inputs for the entry function and a tensor for every weight that a run reads. */
export function arbInputs(module: Module, options: { readonly finite?: boolean } = {}): fc.Arbitrary<Inputs> {
  const { finite = false } = options;
  const weights = [...weightTypes(module)];
  return fc
    .tuple(
      fc.tuple(...getFunc(module, module.entry).params.map((param) => arbTensor(param.type, finite))),
      fc.tuple(...weights.map(([, type]) => arbTensor(type, finite))),
    )
    .map(([inputs, tensors]) => {
      const table = new Map(weights.map(([name], i) => [name, tensors[i]!]));
      const result: Inputs = { inputs, weights: (name) => table.get(name)! };
      const text = () => [...inputs.map(showTensor), ...[...table].map(([name, x]) => `${name}: ${showTensor(x)}`)];
      return Object.defineProperty(result, fc.toStringMethod, { value: () => text().join("\n"), enumerable: false });
    });
}

/** Checkpoint tensors of a module: names with `{layer}` and `{0}` filled in. */
export function weightTypes(module: Module): Map<string, TensorType> {
  const types = new Map<string, TensorType>();
  const layers = new Map<string, Set<number | undefined>>();
  const nodesOf = (func: Func) => topoOrder(func.outs);
  for (const func of module.funcs.values()) {
    for (const node of nodesOf(func)) {
      if (!isOp(node, "call")) continue;
      const bound = layers.get(node.attrs.func) ?? new Set();
      layers.set(node.attrs.func, bound.add(node.attrs.layer));
    }
  }
  for (const func of module.funcs.values()) {
    for (const node of nodesOf(func)) {
      if (!isOp(node, "weight")) continue;
      const { name, shape, dtype } = node.attrs;
      for (const layer of name.includes("{layer}") ? (layers.get(func.name) ?? []) : [undefined]) {
        const parts = weightParts(name, shape, layer);
        for (const part of parts.names) types.set(part, tensorType(dtype, parts.shape));
      }
    }
  }
  return types;
}

export function runInterpret(module: Module, { inputs, weights }: Inputs): Tensor[] {
  return interpret(module, inputs, { weights });
}

/** A module and inputs for it. */
export function withInputs(modules: fc.Arbitrary<Module>, options: { readonly finite?: boolean } = {}) {
  return modules.chain((module) => fc.tuple(fc.constant(module), arbInputs(module, options)));
}

export function showTensor(tensor: Tensor): string {
  return `${showType(tensor.type)} ${valuesOf(tensor).map(showNumber).join(" ")}`;
}
