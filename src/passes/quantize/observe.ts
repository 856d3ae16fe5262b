/**
 * Calibration: the functions also return how large each input is that a policy with `int8-static` would quantise. The
 * entry returns them all, so that running the program on sample text tells the scales.
 */
import { maths } from "../../ir/build.ts";
import { isOp, type Module, type Node, named, topoOrder } from "../../ir/graph.ts";
import { sizeOf } from "../../ir/types.ts";
import type { Pass } from "../pass.ts";
import type { QuantizeOptions } from "./policy.ts";
import { inputScaleName, inputToQuantize } from "./quantize.ts";

/** Stands where quantize would. The new results of the entry, f32 [] each, are called like the weights of their scales. */
export function observe(options: QuantizeOptions): Pass {
  return {
    name: "observe",
    level: "tensor",
    exact: true,
    run: (module, { builder }) => {
      const { abs, reduceMax, reshape } = maths(builder);
      /** By function, then by name. */
      const seen = new Map<string, ReadonlyMap<string, Node>>();
      const funcs = [...module.funcs.values()].map((func) => {
        const found = new Map<string, Node>();
        for (const node of topoOrder(func.outs)) {
          if (isOp(node, "call") && node.attrs.result === 0) {
            for (const [name, out] of observedByCall(module, node, seen, builder)) found.set(name, out);
          }
          const input = isOp(node, "contract") ? inputToQuantize(node, options) : undefined;
          if (input?.format !== "int8-static") continue;
          const largest = reduceMax(abs(reshape(input.x, [sizeOf(input.x.type.shape)])));
          found.set(inputScaleName(input.weights), largest);
        }
        seen.set(func.name, found);
        if (found.size === 0) return func;
        return { ...func, outs: [...func.outs, ...[...found].map(([name, out]) => named(name, out))] };
      });
      if (funcs.every((func) => func === module.funcs.get(func.name))) return module;
      return { ...module, funcs: new Map(funcs.map((func) => [func.name, func])) };
    },
  };
}

/** The results that a call now has besides its own, by name with `{layer}` bound. */
function observedByCall(
  module: Module,
  call: Node<"call">,
  seen: ReadonlyMap<string, ReadonlyMap<string, Node>>,
  builder: Parameters<typeof maths>[0],
): [string, Node][] {
  const { func, layer } = call.attrs;
  const own = module.funcs.get(func)!.outs.length;
  return [...seen.get(func)!].map(([name, { type }], i) => {
    const result = builder.make("call", call.ins, { ...call.attrs, result: own + i, ...type });
    return [layer === undefined ? name : name.replace("{layer}", String(layer)), result];
  });
}
