/** The value of one element of each inlinable op, as a kernel expression: one row per op. */
import { InternalError } from "../../ir/errors.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import { cast, type Expr, iadd, idiv, imul, int, isub, num, op, ref, select } from "../../ir/kernel/kernel.ts";
import { assign, variable } from "../../ir/kernel/stmt.ts";
import { type ArithmeticDType, loadedDType } from "../../ir/kernel/value.ts";
import { opDef } from "../../ir/ops/all.ts";
import { codeRange } from "../../ir/ops/groups.ts";
import { clampTo, range, reindex } from "./index-math.ts";
import type { InlinableOp } from "./inlinable.ts";
import type { KernelWriter, Together } from "./writer.ts";

type ValueRule = (w: KernelWriter, node: Node, idx: readonly Expr[]) => Expr;

/** Element `idx` of a node that is computed in place. */
export function elementValue(w: KernelWriter, node: Node, idx: readonly Expr[]): Expr {
  const { scalar } = opDef(node.op);
  if (scalar !== undefined) return op(scalar, ...node.ins.map((x) => w.value(x, idx)));
  if (!Object.hasOwn(rules, node.op))
    throw new InternalError(`lower ${node.op}`, "the op cannot be part of another kernel");
  return rules[node.op as InlinableOp](w, node, idx); // guarded by the line above
}

/** The type that a node's elements have in kernel expressions. */
export function elementType(node: Node): ArithmeticDType {
  return loadedDType(node.type.dtype);
}

const ints = (node: Node, name: string) => attrsOf(node)[name] as readonly number[]; // checked against the op's spec
const intOf = (node: Node, name: string) => attrsOf(node)[name] as number; // checked against the op's spec

const rules: Record<InlinableOp, ValueRule> = {
  full: (_, node) => num(elementType(node), intOf(node, "value")),
  iota: (_, node, idx) => cast(elementType(node), idx[intOf(node, "axis")]!),
  cast: (w, node, idx) => cast(elementType(node), w.value(node.ins[0]!, idx)),
  reshape: (w, node, idx) => {
    const [x] = node.ins;
    return w.value(x!, reindex(idx, node.type.shape, x!.type.shape));
  },
  transpose: (w, node, idx) => {
    const perm = ints(node, "perm");
    return w.value(
      node.ins[0]!,
      perm.map((_, axis) => idx[perm.indexOf(axis)]!),
    );
  },
  slice: (w, node, idx) => {
    const axis = intOf(node, "axis");
    return w.value(node.ins[0]!, idx.with(axis, iadd(idx[axis]!, int(intOf(node, "start")))));
  },
  broadcast: (w, node, idx) => {
    const { shape } = node.ins[0]!.type;
    const own = idx.slice(idx.length - shape.length);
    return w.value(
      node.ins[0]!,
      own.map((i, axis) => (shape[axis] === 1 ? int(0) : i)),
    );
  },
  // Every part is read at an index clamped to the part, so that no branch can leave its buffer.
  concat: (w, node, idx) => {
    const axis = intOf(node, "axis");
    const at = idx[axis]!;
    let offset = 0;
    const parts = node.ins
      .map((x) => {
        const size = x.type.shape[axis]!;
        const start = offset;
        offset += size;
        return { x, size, start };
      })
      .filter((part) => part.size > 0);
    const read = ({ x, size, start }: (typeof parts)[number]) =>
      w.value(x, idx.with(axis, clampTo(isub(at, int(start)), size)));
    return parts
      .slice(0, -1)
      .reduceRight(
        (rest, part) => select(op("lt", at, int(part.start + part.size)), read(part), rest),
        read(parts.at(-1)!),
      );
  },
  gather: (w, node, idx) => {
    const [x, index] = node.ins;
    const rank = index!.type.shape.length;
    const row = clampTo(w.value(index!, idx.slice(0, rank)), x!.type.shape[0]!);
    return w.value(x!, [row, ...idx.slice(rank)]);
  },
  takeAlong: (w, node, idx) => {
    const [x, index] = node.ins;
    return w.value(x!, [...idx.slice(0, -1), clampTo(w.value(index!, idx), x!.type.shape.at(-1)!)]);
  },
  dequantizeBlocks: (w, node, idx) => {
    const [x, scale] = node.ins;
    const block = ints(node, "block");
    const lead = idx.length - block.length;
    const at = idx.map((i, axis) => (axis < lead ? i : idiv(i, int(block[axis - lead]!))));
    return op("mul", w.value(x!, idx), w.value(scale!, at));
  },
  quantizeGroups: (w, node, idx) => {
    const { scale, minimum } = groupParams(w, node, idx);
    const x = w.value(node.ins[0]!, idx);
    return codeOf(minimum === undefined ? x : op("sub", x, minimum), scale, codeRange(node.type.dtype)!);
  },
  dequantizeGroups: (w, node, idx) => {
    const { scale, minimum } = groupParams(w, node, idx);
    const product = op("mul", cast("f32", w.value(node.ins[0]!, idx)), scale);
    return minimum === undefined ? product : op("add", product, minimum);
  },
  reduceSum: (w, node, idx) => {
    const { accumulator } = w.target;
    const total = reduce(w, node, idx, num(accumulator, 0), (sum, x) => op("add", sum, cast(accumulator, x)));
    return w.bind("sum", cast("f32", total));
  },
  reduceMax: (w, node, idx) =>
    reduce(w, node, idx, num("f32", Number.NEGATIVE_INFINITY), (most, x) => op("max", most, x)),
};

/** Scale and, where there is one, minimum of the group that element `idx` is in. */
function groupParams(w: KernelWriter, node: Node, idx: readonly Expr[]): { scale: Expr; minimum: Expr | undefined } {
  const [scale, minimum] = node.ins.slice(1);
  const at = idx.with(-1, idiv(idx.at(-1)!, int(intOf(node, "group"))));
  return { scale: w.value(scale!, at), minimum: minimum && w.value(minimum, at) };
}

/** The i32 code nearest to `x / scale`; 0 where the scale is 0. */
function codeOf(x: Expr, scale: Expr, range: CodeRange): Expr {
  return select(op("eq", scale, num("f32", 0)), int(0), cast("i32", nearestCode(x, scale, range)));
}

interface CodeRange {
  readonly low: number;
  readonly high: number;
}

/** The code nearest to `x / scale` as f32; what it is where the scale is 0 makes no sense. */
export function nearestCode(x: Expr, scale: Expr, range: CodeRange): Expr {
  return roundedCode(op("div", x, scale), range);
}

/** The code nearest to a quotient, as f32. */
export function roundedCode(quotient: Expr, { low, high }: CodeRange): Expr {
  return op("min", op("max", op("round", quotient), num("f32", low)), num("f32", high));
}

/** A loop over the last axis of a reduction's operand; gives the accumulator. */
function reduce(
  w: KernelWriter,
  node: Node,
  idx: readonly Expr[],
  init: Expr,
  combine: (acc: Expr, x: Expr) => Expr,
): Expr {
  const [x] = node.ins;
  const name = w.unique(node.op === "reduceMax" ? "most" : "acc");
  w.emit(variable(name, init));
  const acc = ref(name, init.type);
  const step = (r: Expr) => w.emit(assign(name, combine(acc, w.value(x!, [...idx, r]))));
  const { together } = w;
  if (together === null) {
    w.loop("r", x!.type.shape.at(-1)!, step);
    return acc;
  }
  const length = x!.type.shape.at(-1)!;
  takeInTurn(w, together, length, step);
  return w.combine("all", node.op === "reduceMax" ? "max" : "add", acc, together.size, together.apart);
}

/** Elements of a row, each by one of those that share it: four at once where there are so many, whose loads are on their way together. */
function takeInTurn(w: KernelWriter, together: Together, length: number, step: (r: Expr) => void): void {
  const { lane, size, apart = 1 } = together;
  const four = range(4);
  if (apart === 1) {
    const each = length % 4 === 0 && length >= 4 * size ? four : [0];
    w.strided(together, "r", length / each.length, (r) => {
      for (const i of each) step(iadd(imul(r, int(each.length)), int(i)));
    });
    return;
  }
  const rounds = Math.floor(length / (4 * size));
  w.loop("q", rounds, (q) => {
    const first = w.bind("first", iadd(lane, imul(q, int(4 * size))));
    for (const i of four) step(iadd(first, int(i * size)));
  });
  const done = rounds * 4 * size;
  if (done < length) w.strided({ lane: iadd(lane, int(done)), size }, "r", length, step);
}
