/** What invocations of a GPU load for a group of codes, or a vector of it: the parts that products of codes are made of there. */
import { invariant } from "../../ir/errors.ts";
import type { Node } from "../../ir/graph.ts";
import { type Expr, iadd, imul, int, intrinsic, type Load, num, op, splat } from "../../ir/kernel/kernel.ts";
import { valueType } from "../../ir/kernel/value.ts";
import type { Group } from "../fuse.ts";
import type { KernelWriter } from "./writer.ts";

export interface Dot {
  readonly w: KernelWriter;
  readonly group: Group;
  readonly bits: number;
  /** Zero point of the codes after they became signed. */
  readonly rest: number;
  readonly lead: readonly number[];
  readonly blocks: number;
  /** Rows of a block. */
  readonly block: number;
  readonly groups: number;
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

/** Vector `j` of all of a block: so many of each group, of its rows in turn. */
export function weightBytes(dot: Dot, idx: readonly Expr[], block: Expr, j: Expr): Expr {
  const { w, group } = dot;
  const element = ofWeights(dot, group.anchor.ins[3]!, idx, [block, int(0), int(0), int(0), int(0)]);
  // Vectors of a block lie one after another, whichever group they are of.
  return w.bind("bytes", {
    ...element,
    index: iadd(element.index, imul(j, int(16))),
    type: valueType("u8", 16),
  });
}

/** Signed codes of a vector: 16, or 32 where a byte holds two, which are then 16 times as large. */
export function codesOf({ w, bits }: Dot, bytes: Expr): readonly Expr[] {
  if (bits === 8) return [w.bind("codes", intrinsic("less128", bytes))];
  return [w.bind("low", intrinsic("low4s", bytes)), w.bind("high", intrinsic("high4s", bytes))];
}

export interface RowScales {
  readonly scale: Expr;
  readonly minimum: Expr | undefined;
}

/** Whether the sums of the input's codes count: where codes of weights have another zero than the middle, or minimums. */
export function readsSums({ group, rest }: Dot): boolean {
  return rest !== 0 || group.anchor.ins.length === 6;
}

/** What a group's sum of the input's codes is multiplied by, besides the input's scale; `scales` has one lane or more. */
export function shareOf({ rest }: Dot, { scale, minimum }: RowScales): Expr {
  const { lanes } = scale.type;
  const zero = num("f32", -rest);
  const share = op("mul", scale, lanes > 1 ? splat(zero, lanes) : zero);
  return minimum === undefined ? share : op("add", share, minimum);
}

/** The scale of a token's group; codes of four bits are 16 times as large here. */
export function inputScaleAt({ w, group, bits }: Dot, idx: readonly Expr[], g: Expr): Expr {
  const node = group.anchor.ins[1]!;
  const known = finiteScale(w.value(node, [...own(node, idx, 1), g]));
  // A power of two, so exact.
  return bits === 4 ? op("mul", known, num("f32", 1 / 16)) : known;
}

/** The sum of a token's codes of a group, times their scale. */
export function inputSumAt({ w, group }: Dot, idx: readonly Expr[], g: Expr): Expr {
  const [xScale, xSum] = [group.anchor.ins[1]!, group.anchor.ins[2]!];
  const at = (node: Node) => w.value(node, [...own(node, idx, 1), g]);
  return op("mul", finiteScale(at(xScale)), at(xSum));
}

/** Scales are bounded when they are made, so that none is infinite. */
export function finiteScale(value: Expr): Expr {
  return value.k === "load" ? intrinsic("finite", value) : value;
}

/** The scales (operand 4) and minimums (5) of some of a block's rows, from `row` on, in a group. */
export function scalesOf(dot: Dot, idx: readonly Expr[], block: Expr, g: Expr, row: Expr, lanes: 1 | 4): RowScales {
  const { w, group } = dot;
  const [scale, minimum] = group.anchor.ins.slice(4).map((node) => {
    const element = ofWeights(dot, node, idx, [block, g, row]);
    return w.bind("scale", intrinsic("finite", { ...element, type: valueType("f32", lanes) }));
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
