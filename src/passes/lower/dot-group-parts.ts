/**
 * What an invocation of a GPU loads for a group of codes, or a chunk of it, and how it adds the products: the parts that
 * both loops of `dot-group.ts` are made of.
 */
import { invariant } from "../../ir/errors.ts";
import type { Node } from "../../ir/graph.ts";
import {
  cast,
  type Expr,
  iadd,
  imul,
  int,
  intrinsic,
  type Load,
  num,
  op,
  type Ref,
  ref,
  select,
  splat,
} from "../../ir/kernel/kernel.ts";
import { assign, variable } from "../../ir/kernel/stmt.ts";
import { valueType } from "../../ir/kernel/value.ts";
import type { Group } from "../fuse.ts";
import { range } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

export interface Dot {
  readonly w: KernelWriter;
  readonly group: Group;
  readonly bits: number;
  /** Zero point of the codes after they became signed. */
  readonly rest: number;
  readonly lead: readonly number[];
  readonly blocks: number;
  /** Fours of rows in a block. */
  readonly fours: number;
  readonly groups: number;
  readonly tokens: number;
  /** Where the rows of weights, scales and minimums are; by default in the operand, at a token's leading indices. */
  readonly table?: (operand: Node) => { readonly node: Node; readonly lead: readonly Expr[] };
}

/** An element of weights, scales or minimums, by its last indices. */
function ofWeights({ w, table }: Dot, operand: Node, idx: readonly Expr[], last: readonly Expr[]): Load {
  const { node, lead } = table?.(operand) ?? { node: operand, lead: own(operand, idx, last.length) };
  const element = w.value(node, [...lead, ...last]);
  invariant(element.k === "load", () => "a dot reads its operands from memory");
  return element;
}

/** Sums per token of the tile and four rows. */
export type Sums = readonly (readonly Ref[])[];

export function sumsOf({ w, fours }: Dot, idx: readonly (readonly Expr[])[]): Sums {
  return idx.map(() =>
    range(fours).map(() => {
      const sum = ref(w.unique("sum"), valueType("f32", 4));
      w.emit(variable(sum.name, splat(num("f32", 0), 4)));
      return sum;
    }),
  );
}

/** Chunk `j` of all chunks of a block. */
export function weightBytes(dot: Dot, idx: readonly Expr[], block: Expr, j: Expr): Expr {
  const { w, group } = dot;
  const element = ofWeights(dot, group.anchor.ins[3]!, idx, [block, int(0), int(0), int(0), int(0)]);
  // Chunks of a block lie one after another, whichever group they are of.
  return w.bind("bytes", {
    ...element,
    index: iadd(element.index, imul(j, int(16))),
    type: valueType("u8", 16),
  });
}

/** Signed codes of a chunk: one vector, or two where a byte holds two codes, which are then 16 times as large. */
export function codesOf({ w, bits }: Dot, bytes: Expr): readonly Expr[] {
  if (bits === 8) return [w.bind("codes", intrinsic("less128", bytes))];
  return [w.bind("low", intrinsic("low4s", bytes)), w.bind("high", intrinsic("high4s", bytes))];
}

export interface RowScales {
  readonly scale: Expr;
  readonly minimum: Expr | undefined;
}

interface Parts {
  /** Per four rows. */
  readonly products: readonly Expr[];
  readonly ofRows: readonly RowScales[];
  /** A value that counts once in a group. */
  readonly once: (value: Expr) => Expr;
  /** Whether the products count at all. */
  readonly counts?: Expr;
}

/** sum += xScale * (scale * (products - rest * xSum) + minimum * xSum) */
export function addGroup(dot: Dot, sums: readonly Ref[], idx: readonly Expr[], g: Expr, parts: Parts): void {
  const { w, group, bits, rest } = dot;
  const [xScale, xSum] = [group.anchor.ins[1]!, group.anchor.ins[2]!];
  const at = (node: Node) => w.value(node, [...own(node, idx, 1), g]);
  const known = w.bind("x_scale", finiteScale(at(xScale)));
  const { counts } = parts;
  const inputScale = counts === undefined ? known : w.bind("x_scale", select(counts, known, num("f32", 0)));
  // A power of two, so exact.
  const size = w.bind("x_scale", bits === 4 ? op("mul", inputScale, num("f32", 1 / 16)) : inputScale);
  const needsSum = rest !== 0 || group.anchor.ins.length === 6;
  const total = needsSum ? w.bind("x_sum", parts.once(op("mul", inputScale, at(xSum)))) : undefined;
  for (const [four, sum] of sums.entries()) {
    const { scale, minimum } = parts.ofRows[four]!;
    const factor = op("mul", scale, splat(size, 4));
    w.emit(assign(sum.name, intrinsic("fma", cast("f32", parts.products[four]!), factor, sum)));
    if (total === undefined) continue;
    const share = op("mul", scale, splat(num("f32", -rest), 4));
    const each = minimum === undefined ? share : op("add", share, minimum);
    w.emit(assign(sum.name, intrinsic("fma", splat(total, 4), each, sum)));
  }
}

/** Scales are bounded when they are made, so that none is infinite. */
export function finiteScale(value: Expr): Expr {
  return value.k === "load" ? intrinsic("finite", value) : value;
}

/** The scales (operand 4) and minimums (5) of four of a block's rows, from row `four` on, in a group. */
export function scalesOf(dot: Dot, idx: readonly Expr[], block: Expr, g: Expr, four: Expr): RowScales {
  const { w, group } = dot;
  const [scale, minimum] = group.anchor.ins.slice(4).map((node) => {
    const element = ofWeights(dot, node, idx, [block, g, four]);
    return w.bind("scale", intrinsic("finite", { ...element, type: valueType("f32", 4) }));
  });
  return { scale: scale!, minimum };
}

/** Consecutive bytes of an operand from element `k` of its last axis. */
export function bytesAt({ w, group }: Dot, operand: number, idx: readonly Expr[], k: Expr, lanes: number): Expr {
  const node = group.anchor.ins[operand]!;
  const element = w.value(node, [...own(node, idx, 1), k]);
  invariant(element.k === "load", () => "a dot reads its operands from memory");
  return { ...element, type: valueType("i8", lanes) };
}

/** The leading indices that an operand has. */
export function own(node: Node, idx: readonly Expr[], trailing: number): readonly Expr[] {
  return idx.slice(0, node.type.shape.length - trailing);
}
