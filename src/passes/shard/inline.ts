/**
 * A program whose exchanges are all in its entry: functions that exchange anything are put in the place of their calls, the
 * layer bound in the names of weights, so it grows with the number of layers. Other calls stay.
 */
import { Builder, type Func, getFunc, isOp, type Module, makeModule, type Node, topoOrder } from "../../ir/graph.ts";
import { keepName } from "../../ir/rewrite.ts";
import { collectivesOf } from "./verify-ranks.ts";

export function inlineCalls(module: Module): Module {
  const builder = new Builder();
  const entry = getFunc(module, module.entry);
  const params = entry.params.map((param) => builder.make("param", [], param.attrs));
  const outs = inlined(module, entry, params, builder, undefined);
  const kept = [...module.funcs.values()].filter(({ name }) => name !== entry.name && !exchanges(module, name));
  return makeModule(module.name, [...kept, { name: entry.name, params, outs }], entry.name);
}

function exchanges(module: Module, func: string): boolean {
  return collectivesOf(module, func).length > 0;
}

/** The results of a function on these arguments. */
function inlined(
  module: Module,
  func: Func,
  args: readonly Node[],
  builder: Builder,
  layer: number | undefined,
): readonly Node[] {
  const made = new Map<Node, Node>(func.params.map((param, i) => [param, args[i]!]));
  /** A call has one node per result. */
  const calls = new Map<string, readonly Node[]>();
  const called = (node: Node<"call">, ins: readonly Node[]): Node => {
    const { func: name, layer: bound, result } = node.attrs;
    const key = `${name} ${bound} ${ins.map(({ id }) => id)}`;
    const results = calls.get(key) ?? inlined(module, getFunc(module, name), ins, builder, bound);
    calls.set(key, results);
    return results[result]!;
  };
  for (const node of topoOrder(func.outs)) {
    if (made.has(node)) continue;
    const ins = node.ins.map((x) => made.get(x)!);
    if (isOp(node, "call") && exchanges(module, node.attrs.func)) made.set(node, called(node, ins));
    else if (isOp(node, "weight") && layer !== undefined) {
      const name = node.attrs.name.replaceAll("{layer}", String(layer));
      made.set(node, keepName(node, builder.make("weight", [], { ...node.attrs, name })));
    } else made.set(node, keepName(node, builder.make(node.op, ins, node.attrs)));
  }
  return func.outs.map((out) => made.get(out)!);
}
