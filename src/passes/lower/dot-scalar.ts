/** Lowering of `dotGroups` for processors without vectors of bytes: one sum per row, codes found one by one. */
import { attrsOf, type Node } from "../../ir/graph.ts";
import { cast, type Expr, iadd, idiv, imul, int, irem, num, op, ref } from "../../ir/kernel/kernel.ts";
import { assign, store, variable } from "../../ir/kernel/stmt.ts";
import { dotBlock, dotGroup, dotOrder, pairBits } from "../../ir/ops/dot.ts";
import type { Group } from "../fuse.ts";
import { flatten, unflatten } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

export function lowerDotScalar(w: KernelWriter, anchor: Node, group: Group): void {
  const { shape } = anchor.type;
  const enter = (axis: number, idx: readonly Expr[]): void => {
    if (axis === shape.length) writeElement(w, group, idx);
    else w.loop("nklo"[axis] ?? "o", shape[axis]!, (i) => enter(axis + 1, [...idx, i]), w.independent(axis));
  };
  enter(0, []);
}

function writeElement(w: KernelWriter, { anchor, root }: Group, idx: readonly Expr[]): void {
  const [x, xScale, xSum, weights, wScale, wMin] = anchor.ins as [Node, Node, Node, Node, Node, Node?]; // its operands
  const { bits, zero } = attrsOf(anchor) as { bits: number; zero: number }; // the op's attributes
  const { accumulator } = w.target;
  const [lead, row] = [idx.slice(0, -1), idx.at(-1)!];
  const rows = dotBlock(bits);
  const [block, inBlock] = [idiv(row, int(rows)), irem(row, int(rows))];
  const own = (node: Node, trailing: number) => lead.slice(0, node.type.shape.length - trailing);
  const total = ref(w.unique("total"), accumulator);
  w.emit(variable(total.name, num(accumulator, 0)));
  w.loop("g", wScale.type.shape.at(-2)!, (g) => {
    const dot = ref(w.unique("dot"), "i32");
    w.emit(variable(dot.name, int(0)));
    w.loop("k", dotGroup, (k) => {
      const packed = weights.type.shape;
      const byteAt = (i: Expr) => w.value(weights, [...own(weights, 5), block, g, ...unflatten(i, packed.slice(-3))]);
      const dense = dotOrder(packed) === "rows" ? codeByRows : codeByChunks;
      const code = bits === pairBits ? pairCode(byteAt, inBlock, k) : dense(byteAt, inBlock, k, bits);
      const input = w.value(x, [...own(x, 1), iadd(imul(g, int(dotGroup)), k)]);
      w.emit(assign(dot.name, iadd(dot, imul(input, code))));
    });
    const inputSum = w.value(xSum, [...own(xSum, 1), g]);
    const inputScale = w.value(xScale, [...own(xScale, 1), g]);
    const ofRow = (node: Node) => w.value(node, [...own(node, 3), block, g, inBlock]);
    const scaled = (sum: Expr, factor: Expr) => op("mul", sum, cast(accumulator, op("mul", inputScale, factor)));
    const share = op("mul", cast(accumulator, inputSum), num(accumulator, zero));
    w.emit(assign(total.name, op("add", total, scaled(op("sub", cast(accumulator, dot), share), ofRow(wScale)))));
    if (wMin !== undefined)
      w.emit(assign(total.name, op("add", total, scaled(cast(accumulator, inputSum), ofRow(wMin)))));
  });
  w.hold(anchor, () => cast("f32", total));
  w.emit(store(w.out, flatten(idx, root.type.shape), w.value(root, idx)));
}

/** The code of a row of the block and an element of the group. */
function codeByRows(byteAt: (i: Expr) => Expr, row: Expr, k: Expr, bits: number): Expr {
  const within = irem(k, int(16));
  if (bits === 8) return byteAt(iadd(imul(iadd(imul(idiv(k, int(16)), int(4)), row), int(16)), within));
  const byte = byteAt(iadd(imul(row, int(16)), within));
  return op("select", op("lt", k, int(16)), irem(byte, int(16)), idiv(byte, int(16)));
}

/** The same, where codes are in the order of chunks. */
function codeByChunks(byteAt: (i: Expr) => Expr, row: Expr, k: Expr, bits: number): Expr {
  const [chunk, four] = [imul(idiv(k, int(4)), int(16)), bits === 4 ? irem(row, int(4)) : row];
  const byte = byteAt(iadd(iadd(chunk, imul(four, int(4))), irem(k, int(4))));
  return bits === 4 ? op("select", op("lt", row, int(4)), irem(byte, int(16)), idiv(byte, int(16))) : byte;
}

/** One of the two codes that stay of four, or 0. */
function pairCode(byteAt: (i: Expr) => Expr, row: Expr, k: Expr): Expr {
  const step = idiv(k, int(8));
  const divisor = op(
    "select",
    op("lt", step, int(2)),
    iadd(int(1), imul(step, int(3))),
    iadd(imul(step, int(48)), int(-80)),
  );
  const code = (second: number) => {
    const lane = iadd(iadd(imul(row, int(4)), imul(irem(idiv(k, int(4)), int(2)), int(2))), int(second));
    const place = irem(idiv(byteAt(iadd(int(64), lane)), divisor), int(4));
    const signed = op("sub", byteAt(iadd(imul(step, int(16)), lane)), int(128));
    return op("select", op("eq", place, irem(k, int(4))), signed, int(0));
  };
  return iadd(code(0), code(1));
}
