/**
 * A program without calls: the entry with every function put in the place of its calls, the layer bound in the names of
 * weights. It grows with the number of layers.
 */
import { Builder, type Func, getFunc, isOp, type Module, type Node, topoOrder } from "../../ir/graph.ts";
import { keepName } from "../../ir/rewrite.ts";

export function inlineCalls(module: Module): Func {
  const builder = new Builder();
  const entry = getFunc(module, module.entry);
  const params = entry.params.map((param) => builder.make("param", [], param.attrs));
  const outs = inlined(module, entry, params, builder, undefined);
  return { name: entry.name, params, outs };
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
    if (isOp(node, "call")) made.set(node, called(node, ins));
    else if (isOp(node, "weight") && layer !== undefined) {
      const name = node.attrs.name.replaceAll("{layer}", String(layer));
      made.set(node, keepName(node, builder.make("weight", [], { ...node.attrs, name })));
    } else made.set(node, keepName(node, builder.make(node.op, ins, node.attrs)));
  }
  return func.outs.map((out) => made.get(out)!);
}
