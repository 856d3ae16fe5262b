/**
 * Stores weights as a library of matrix products reads them fastest: an axis that is summed before those of the result,
 * w[i, o] in place of w[o, i]. Where a chosen weight per token is summed over the choice as well (the way down from the
 * experts, "n k f, n k i f -> n i"), the axes that are summed then lie together, and no step has to bring them together.
 *
 * The last two axes of a weight expression that nothing else reads are exchanged, which the loader does once.
 */
import { parseAxes, showAxes } from "../ir/axes.ts";
import { type Maths, maths } from "../ir/build.ts";
import { type Func, isOp, type Node, rebuild, topoOrder, usersOf } from "../ir/graph.ts";
import { keepName } from "../ir/rewrite.ts";
import { stageOf } from "./constant.ts";
import { mapOuts, type Pass } from "./pass.ts";

export const orientWeights: Pass = {
  name: "orient-weights",
  level: "tensor",
  exact: true,
  run: (module, { builder }) => mapOuts(module, (func) => orientInFunc(func, maths(builder))),
};

function orientInFunc(func: Func, build: Maths): readonly Node[] {
  const users = usersOf(topoOrder(func.outs));
  return rebuild(func.outs, build.builder, (node, original) => {
    if (!isOp(node, "contract") || !isOp(original, "contract")) return node;
    if (stageOf(original) !== "runtime" || !isBetterSwapped(original, users)) return node;
    const { ins, out } = parseAxes(node.attrs.axes);
    const axes = showAxes({ ins: [ins[0]!, swapped(ins[1]!)], out });
    const weight = withTable(node.ins[1]!, build);
    return keepName(original, build.builder.make("contract", [node.ins[0]!, weight], { axes }));
  }).roots;
}

function isBetterSwapped(node: Node<"contract">, users: ReadonlyMap<Node, readonly Node[]>): boolean {
  const [input, operand] = node.ins as readonly [Node, Node]; // a contraction has two
  const chain = pathOf(operand);
  const table = chain.at(-1)!;
  if (stageOf(input) !== "runtime" || stageOf(table) !== "weight") return false;
  // What something else reads too would be stored twice.
  if (chain.some((each) => users.get(each)!.length > 1)) return false;
  const { ins, out } = parseAxes(node.attrs.axes);
  const [left, right] = [ins[0]!, ins[1]!];
  const size = (axis: string) => operand.type.shape[right.indexOf(axis)]!;
  // The table's own axes are those after the ones of the indices that choose from its first.
  const chosen = table === operand ? 0 : operand.type.shape.length - table.type.shape.length + 1;
  if (right.length - chosen < 2) return false;
  const cost = (order: readonly string[]) => costOf(order, { left, right, out, size });
  return cost(swapped(right)) < cost(right);
}

interface Product {
  readonly left: readonly string[];
  readonly right: readonly string[];
  readonly out: readonly string[];
  readonly size: (axis: string) => number;
}

/** 0 where the right operand is a stack of matrices [summed, own] as it lies, 1 for [own, summed], 2 where it must be moved. */
function costOf(order: readonly string[], { left, right, out, size }: Product): number {
  const both = right.filter((axis) => left.includes(axis));
  const batch = out.filter((axis) => both.includes(axis));
  const own = out.filter((axis) => right.includes(axis) && !left.includes(axis));
  const summed = left.filter((axis) => both.includes(axis) && !out.includes(axis));
  const text = (axes: readonly string[]) => axes.filter((axis) => size(axis) !== 1).join(" ");
  if (text(order) === text([...batch, ...summed, ...own])) return 0;
  return text(order) === text([...batch, ...own, ...summed]) ? 1 : 2;
}

/** From an operand to the weight expression that it is, or whose rows it takes, perhaps converted. */
function pathOf(operand: Node): readonly Node[] {
  if (stageOf(operand) === "weight") return [operand];
  const rows = operand.op === "cast" ? operand.ins[0]! : operand;
  const above = rows === operand ? [operand] : [operand, rows];
  return isOp(rows, "gather") ? [...above, rows.ins[0]!] : above;
}

/** The operand with the table's last axes exchanged. */
function withTable(operand: Node, build: Maths): Node {
  if (stageOf(operand) === "weight") {
    return build.transpose(operand, swapped(operand.type.shape.map((_, i) => i)));
  }
  const [first, ...rest] = operand.ins as readonly [Node, ...Node[]]; // a gather or a cast
  const table = withTable(first, build);
  const { dtype } = operand.type;
  return isOp(operand, "gather") ? build.gather(table, rest[0]!) : build.cast(table, dtype);
}

function swapped<T>(list: readonly T[]): T[] {
  return [...list.slice(0, -2), list.at(-1)!, list.at(-2)!];
}
