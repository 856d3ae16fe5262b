/**
 * For targets of tensor level, which expand quantised weights once and keep that: matrices are chosen from the expanded
 * table, `gather(dequantizeGroups(codes, scales), index)`, where a model that reads packed weights would choose codes and
 * scales first and expand what was chosen, in every step. Exact: the same elements are multiplied by the same scales.
 */
import { type Maths, maths } from "../ir/build.ts";
import { isOp, type Node, rebuild } from "../ir/graph.ts";
import { keepName } from "../ir/rewrite.ts";
import { stageOf } from "./constant.ts";
import { mapOuts, type Pass } from "./pass.ts";

export const unpackTables: Pass = {
  name: "unpack-tables",
  level: "tensor",
  exact: true,
  run: (module, { builder }) => {
    const build = maths(builder);
    return mapOuts(
      module,
      ({ outs }) => rebuild(outs, builder, (node, original) => unpacked(node, original, build)).roots,
    );
  },
};

function unpacked(node: Node, original: Node, build: Maths): Node {
  if (!isOp(node, "dequantizeGroups")) return node;
  const chosen = node.ins.filter((x): x is Node<"gather"> => isOp(x, "gather"));
  const index = chosen[0]?.ins[1];
  const tables = chosen.map((gather) => gather.ins[0]!); // a gather has two operands
  // Of vectors, the rows of an embedding, the codes stay: few of them are read.
  const whole =
    tables.length === node.ins.length &&
    tables.every((table) => stageOf(table) === "weight" && table.type.shape.length > 2);
  if (!whole || index === undefined || chosen.some((gather) => gather.ins[1] !== index)) return node;
  const table = build.builder.make("dequantizeGroups", tables, node.attrs);
  return keepName(original, build.gather(table, index));
}
