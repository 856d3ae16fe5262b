/**
 * Axis rules: how the dimensions of an op's operands and result relate, which is all that dividing a program over
 * devices needs to know of an op. A dimension is named by a letter or word, "h", or by several where a reshape or a
 * group joins them, "g r" (the first is the slower one). Dimensions that share a name have the same elements in the
 * same order, so they can be cut alike.
 */
import { parseAxes } from "./axes.ts";
import { gcd } from "./gcd.ts";
import type { Shape, TensorType } from "./types.ts";

export interface AxisRule {
  /** For each operand, the names of each dimension. */
  readonly ins: readonly (readonly string[])[];
  readonly out: readonly string[];
  /** Names that cannot be cut: the op needs all of their elements at once. */
  readonly whole?: readonly string[];
  /** Names that the result lacks because they are summed. What devices have is then added up. */
  readonly sum?: readonly string[];
  /** The same for the largest element. */
  readonly max?: readonly string[];
  /** The values of operand `by` are positions along `axis`: elements are read there, or written (and dropped outside). */
  readonly indexed?: { readonly axis: string; readonly by: number; readonly access: "read" | "write" };
  /** Sizes of names that the shapes alone do not tell. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** Sets of operands in which the op is jointly linear while the others are fixed: f(a + b) = f(a) + f(b). */
  readonly linear?: readonly (readonly number[])[];
}

/** Columns of the op table have one of these. */
export type AxisRuleOf<A> = (ins: readonly TensorType[], attrs: A, type: TensorType) => AxisRule;

/** Names for the dimensions of a shape. */
export function names(prefix: string, shape: Shape): string[] {
  return shape.map((_, i) => `${prefix}${i}`);
}

/** All operands and the result have one shape and are computed element by element. */
export function sameAxes(operands: number, shape: Shape, linear: AxisRule["linear"] = []): AxisRule {
  const own = names("a", shape);
  return { ins: new Array<string[]>(operands).fill(own), out: own, linear };
}

/** The last dimension is needed whole; `extra` operands are whole altogether. */
export function lastWhole(shape: Shape, extra: readonly Shape[] = []): AxisRule {
  const own = names("a", shape);
  const others = extra.map((each, i) => names(`extra${i}_`, each));
  return { ins: [own, ...others], out: own, whole: [own.at(-1)!, ...others.flat()] };
}

/** Of a contraction's signature. */
export function contractRule(text: string): AxisRule {
  const { ins, out, reduced } = parseAxes(text);
  return { ins, out, sum: reduced, linear: [[0], [1]] };
}

/** Of a reduction along the last dimension. */
export function reduceRule(shape: Shape, by: "sum" | "max" | "whole"): AxisRule {
  const own = names("a", shape);
  const linear = by === "sum" ? [[0]] : [];
  return { ins: [own], out: own.slice(0, -1), [by]: own.slice(-1), linear };
}

/**
 * Of the same elements under two shapes: dimensions are taken apart into their common factors, as far as there are any.
 * What has none is whole on both sides.
 */
export function reshapeRule(from: Shape, to: Shape): AxisRule {
  const [ins, out] = [from.map((): string[] => []), to.map((): string[] => [])];
  const sizes: Record<string, number> = {};
  let [i, j] = [0, 0];
  let [left, right] = [from[0] ?? 1, to[0] ?? 1];
  while (i < from.length && j < to.length) {
    const common = gcd(left, right);
    if (common > 1) {
      const name = `f${Object.keys(sizes).length}`;
      sizes[name] = common;
      ins[i]!.push(name);
      out[j]!.push(name);
      [left, right] = [left / common, right / common];
    }
    // Nothing in common: from here on positions do not nest.
    if (left !== 1 && right !== 1) break;
    if (left === 1) left = from[++i] ?? 1;
    else right = to[++j] ?? 1;
  }
  const whole: string[] = [];
  const rest = (lists: string[][], side: string, at: number, remaining: number) => {
    for (const [k, list] of lists.entries()) {
      if (list.length > 0 && (k < at || (k === at && remaining === 1))) continue;
      whole.push(`${side}${k}`);
      list.push(`${side}${k}`);
    }
  };
  rest(ins, "in", i, left);
  rest(out, "out", j, right);
  const joined = (lists: string[][]) => lists.map((list) => list.join(" "));
  return { ins: [joined(ins)], out: joined(out), whole, sizes, linear: [[0]] };
}

/**
 * A dimension of `size` in blocks of `block`, with one entry of a second tensor each: cut between blocks only, and not
 * at all where the last block is shorter.
 */
export function blockedNames(
  name: string,
  size: number,
  block: number,
): { all: string; blocks: string; whole: string[] } {
  if (size % block === 0) return { all: `${name} ${name}_in`, blocks: name, whole: [`${name}_in`] };
  return { all: `${name}_all`, blocks: name, whole: [`${name}_all`, name] };
}

/** Sizes of all names: those the rule gives, and those that dimensions tell, alone or beside names known. */
export function nameSizes(rule: AxisRule, ins: readonly TensorType[], out: TensorType): ReadonlyMap<string, number> {
  const dims = [...rule.ins.flatMap((list, i) => list.map((text, j) => ({ text, size: ins[i]!.shape[j]! })))];
  dims.push(...rule.out.map((text, j) => ({ text, size: out.shape[j]! })));
  const sizes = new Map<string, number>(Object.entries(rule.sizes ?? {}));
  for (let round = 0; round < 3; round++) {
    for (const { text, size } of dims) {
      const parts = text.split(" ");
      const unknown = parts.filter((part) => !sizes.has(part));
      if (unknown.length !== 1) continue;
      const known = parts.reduce((product, part) => product * (sizes.get(part) ?? 1), 1);
      sizes.set(unknown[0]!, known === 0 ? 0 : size / known);
    }
  }
  return sizes;
}
