/**
 * The program of one rank: its parts of weights and constants become slices, so that the loader evaluates, and reads, no
 * more than the rank's own share. What ranks exchange stays. Programs of different ranks differ in slices alone.
 */
import { maths } from "../../ir/build.ts";
import { Builder, isOp, type Module, makeModule, type Node, rebuild } from "../../ir/graph.ts";
import { coordsOf, indexAlong, type Mesh, parseOver } from "../../ir/mesh.ts";
import { keepName } from "../../ir/rewrite.ts";

export function localize(module: Module, mesh: Mesh, rank: number): Module {
  const coords = coordsOf(mesh, rank);
  const builder = new Builder();
  const { slice } = maths(builder);
  const own = (node: Node): Node => {
    if (!isOp(node, "shard")) return node;
    const { axis, over } = node.attrs;
    const size = node.type.shape[axis]!;
    const at = indexAlong(mesh, coords, parseOver(over));
    return keepName(node, slice(node.ins[0]!, axis, at * size, (at + 1) * size));
  };
  const funcs = [...module.funcs.values()].map((func) => {
    const params = func.params.map((param) => builder.make("param", [], param.attrs));
    const { roots } = rebuild(func.outs, builder, (node, original) =>
      own(keepName(original, builder.make(node.op, node.ins, node.attrs))),
    );
    return { name: func.name, params, outs: roots };
  });
  return makeModule(module.name, funcs, module.entry);
}
