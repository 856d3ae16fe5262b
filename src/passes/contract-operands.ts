/** Which operand of a contraction its kernel walks row by row, and which streams past it. */
import { parseAxes } from "../ir/axes.ts";
import { attrsOf, type Node } from "../ir/graph.ts";
import { sizeOf } from "../ir/types.ts";

/**
 * The roles of a contraction's operands: `a` is walked row by row (activations), `b` streams past it (weights): the one
 * with more elements, because staging or keeping the smaller is cheaper.
 */
export function contractOperands(node: Node): { a: Node; b: Node; swapped: boolean } {
  const [x, y] = [node.ins[0]!, node.ins[1]!];
  const { ins, out } = parseAxes(String(attrsOf(node).axes));
  const rows = (mine: readonly string[], other: readonly string[]) =>
    out.filter((axis) => mine.includes(axis) && !other.includes(axis));
  const [onlyX, onlyY] = [rows(ins[0]!, ins[1]!), rows(ins[1]!, ins[0]!)];
  const swapped =
    onlyY.length === 0 && onlyX.length > 0
      ? true
      : sizeOf(x.type.shape) > sizeOf(y.type.shape) && onlyX.length > 0 && isRowMajorDot(ins[0]!, out);
  return swapped ? { a: y, b: x, swapped } : { a: x, b: y, swapped };
}

/** Whether an operand's last axis is summed, so that its rows are walked in memory order. */
function isRowMajorDot(axes: readonly string[], out: readonly string[]): boolean {
  return !out.includes(axes.at(-1)!);
}
