/**
 * Products of tokens with rows that each chose from a table (the weights of its experts). To gather the rows first is to
 * copy them for every token; here each row is multiplied where it is: with the tokens that chose it, brought together, or
 * with all tokens, and masks say which of them count.
 */
import { axisSizes, parseAxes } from "../../ir/axes.ts";
import { isOp, type Node } from "../../ir/graph.ts";
import type { TensorFunc } from "../../ir/plan.ts";
import { sizeOf } from "../../ir/types.ts";
import type { ChosenRows, TensorEngine } from "./engine.ts";
import { type Arranged, arrange, sumAway } from "./rows-math.ts";
import { clamped } from "./rows-move.ts";

/**
 * A contraction of x [some of the choice's axes, inner] with `gather table index`, [choice.., inner and own in some order].
 * Every pair of a token and a choice is a product of a vector with a matrix.
 */
export interface ChosenProduct {
  readonly contract: Node<"contract">;
  readonly gather: Node<"gather">;
  /** Axes of the index. */
  readonly choice: readonly string[];
  readonly inner: string;
  readonly own: string;
}

const known = new WeakMap<TensorFunc, Map<string, ReadonlyMap<Node, ChosenProduct>>>();

/** The products of a function whose chosen rows need not be gathered, where an engine makes them in this way. */
export function chosenProducts(tensors: TensorFunc, by: ChosenRows<unknown>["by"]): ReadonlyMap<Node, ChosenProduct> {
  const found = known.get(tensors) ?? new Map<string, ReadonlyMap<Node, ChosenProduct>>();
  known.set(tensors, found);
  const products = found.get(by) ?? findProducts(tensors, by);
  found.set(by, products);
  return products;
}

function findProducts({ order, func }: TensorFunc, by: ChosenRows<unknown>["by"]): ReadonlyMap<Node, ChosenProduct> {
  const products = new Map<Node, ChosenProduct>();
  if (by === "gathered") return products;
  for (const gather of order) {
    if (!isOp(gather, "gather") || func.outs.includes(gather)) continue;
    const [table, index] = gather.ins as readonly [Node, Node]; // a gather has two
    if (by === "masked" && sizeOf(index.type.shape) < table.type.shape[0]!) continue;
    const readers = order.filter((node) => node.ins.includes(gather)).map((node) => productOf(node, gather));
    const all = readers.filter((reader) => reader !== null);
    if (all.length < readers.length) continue;
    for (const product of all) products.set(product.contract, product);
  }
  return products;
}

function productOf(contract: Node, gather: Node<"gather">): ChosenProduct | null {
  if (!isOp(contract, "contract") || contract.ins[1] !== gather || contract.ins[0] === gather) return null;
  if (gather.type.dtype !== "f32" || sizeOf(contract.type.shape) === 0 || sizeOf(gather.type.shape) === 0) return null;
  const { ins, out } = parseAxes(contract.attrs.axes);
  const [left, right] = ins as readonly [readonly string[], readonly string[]]; // a contraction has two
  const rank = gather.ins[1]!.type.shape.length;
  const [choice, matrix] = [right.slice(0, rank), right.slice(rank)];
  const inner = matrix.find((axis) => left.includes(axis) && !out.includes(axis));
  const own = matrix.find((axis) => !left.includes(axis) && out.includes(axis));
  if (matrix.length !== 2 || inner === undefined || own === undefined) return null;
  const allowed = (axes: readonly string[], last: string) =>
    axes.every((axis) => axis === last || choice.includes(axis));
  return allowed(left, inner) && allowed(out, own) ? { contract, gather, choice, inner, own } : null;
}

/** x, the whole table [rows, ..] and the index, each in the shape of its type. */
export function lowerChosen<T>(engine: TensorEngine<T>, product: ChosenProduct, x: T, table: T, index: T): T {
  const { contract } = product;
  const { axes } = contract.attrs;
  const { out } = parseAxes(axes);
  const sizes = axisSizes(
    axes,
    contract.ins.map(({ type }) => type),
  );
  const size = (axis: string) => sizes.get(axis)!;
  const shape = { ...product, size };
  const products =
    engine.chosen.by === "grouped"
      ? byGroups(engine, shape, { x, table, index }, engine.chosen.read)
      : byMasks(engine, shape, { x, table, index });
  const summed = sumAway(engine, products.at, products.axes, (axis) => !out.includes(axis), size);
  return engine.reshape(arrange(engine, summed.at, summed.axes, out, size), contract.type.shape);
}

interface Shaped extends ChosenProduct {
  readonly size: (axis: string) => number;
}

interface Operands<T> {
  readonly x: T;
  readonly table: T;
  readonly index: T;
}

/** x as [vectors, inner], and the axes that say which vector. */
function vectorsOf<T>(engine: TensorEngine<T>, { contract, inner, size }: Shaped, x: T) {
  const left = parseAxes(contract.attrs.axes).ins[0]!;
  const lead = left.filter((axis) => axis !== inner);
  const ordered = arrange(engine, x, left, [...lead, inner], size);
  return { lead, at: engine.reshape(ordered, [sizeOf(lead.map(size)), size(inner)]) };
}

/** Vectors [count, inner] times row `row` of the table: [count, own]. */
function multiply<T>(
  engine: TensorEngine<T>,
  { gather, inner, own, contract, size }: Shaped,
  table: T,
  row: number,
  vectors: T,
  count: number,
): T {
  const { shape } = gather.ins[0]!.type;
  const matrix = engine.slice(
    table,
    shape.map((_, i) => (i === 0 ? row : 0)),
    shape.with(0, 1),
  );
  const innerLast = parseAxes(contract.attrs.axes).ins[1]!.at(-1) === inner;
  const product = engine.matMul(engine.reshape(vectors, [1, count, size(inner)]), matrix, {
    transposeA: false,
    transposeB: innerLast,
  });
  return engine.reshape(product, [count, size(own)]);
}

/** [choice.., own]: pairs by row, each row's vectors together, and the products brought back into the pairs' order. */
function byGroups<T>(
  engine: TensorEngine<T>,
  product: Shaped,
  { x, table, index }: Operands<T>,
  read: (index: T) => ArrayLike<number>,
): Arranged<T> {
  const { gather, choice, inner, own, size } = product;
  const rows = gather.ins[0]!.type.shape[0]!;
  const { lead, at } = vectorsOf(engine, product, x);
  const groups = Array.from({ length: rows }, (): number[] => []);
  const chosen = read(index);
  for (let pair = 0; pair < chosen.length; pair++) groups[Math.min(Math.max(chosen[pair]!, 0), rows - 1)]!.push(pair);
  const order = groups.flat();
  const vector = vectorNumber(choice, lead, size);
  const sorted = engine.gather(at, integers(engine, order.map(vector)), 0);
  const parts: T[] = [];
  let from = 0;
  for (const [row, { length }] of groups.entries()) {
    if (length === 0) continue;
    const vectors = engine.slice(sorted, [from, 0], [length, size(inner)]);
    parts.push(multiply(engine, product, table, row, vectors, length));
    from += length;
  }
  const back = new Array<number>(order.length);
  for (const [place, pair] of order.entries()) back[pair] = place;
  const all = parts.length === 1 ? parts[0]! : engine.concat(parts, 0);
  const products = engine.gather(all, integers(engine, back), 0);
  return { at: engine.reshape(products, [...choice.map(size), size(own)]), axes: [...choice, own] };
}

function integers<T>(engine: TensorEngine<T>, values: readonly number[]): T {
  return engine.constant({ dtype: "i32", shape: [values.length] }, Int32Array.from(values));
}

/** From the number of a pair, counted over all axes of the choice, to that of its vector, counted over some. */
function vectorNumber(choice: readonly string[], lead: readonly string[], size: (axis: string) => number) {
  return (pair: number): number => {
    const at = new Map<string, number>();
    let rest = pair;
    for (const axis of choice.toReversed()) {
      at.set(axis, rest % size(axis));
      rest = Math.floor(rest / size(axis));
    }
    return lead.reduce((number, axis) => number * size(axis) + at.get(axis)!, 0);
  };
}

/**
 * [choice.., own]: every row times all vectors, and of the products each pair takes that of its row. Choosing is not
 * multiplying by 0 or 1, which infinities would not survive. Where the sum over a choice is wanted and its vectors differ,
 * those that a row does not count for are zeros, and added up before the product.
 */
function byMasks<T>(engine: TensorEngine<T>, product: Shaped, { x, table, index }: Operands<T>): Arranged<T> {
  const { contract, gather, choice, inner, own, size } = product;
  const rows = gather.ins[0]!.type.shape[0]!;
  const { ins, out } = parseAxes(contract.attrs.axes);
  const left = ins[0]!;
  // Axes of the choice in their order, of size 1 where vectors do not differ.
  const kept = choice.filter((axis) => left.includes(axis));
  const summed = kept.filter((axis) => !out.includes(axis));
  // What each of a row's vectors is for.
  const lead = summed.length === 0 ? kept : choice.filter((axis) => !summed.includes(axis));
  const spread = (axes: readonly string[], last: string) => [
    ...choice.map((axis) => (axes.includes(axis) ? size(axis) : 1)),
    size(last),
  ];
  const vectors = engine.reshape(arrange(engine, x, left, [...kept, inner], size), spread(kept, inner));
  const chosen = engine.reshape(clamped(engine, index, rows), [...choice.map(size), 1]);
  const zero = engine.fill("f32", 0);
  let all: T | undefined;
  for (let row = 0; row < rows; row++) {
    const is = engine.apply("eq", "i32", [chosen, engine.fill("i32", row)]);
    const masked =
      summed.length === 0
        ? { at: vectors, axes: [...kept, inner] }
        : maskedSum(engine.apply("select", "f32", [is, vectors, zero]));
    const count = sizeOf(lead.map(size));
    const flat = multiply(engine, product, table, row, engine.reshape(masked.at, [count, size(inner)]), count);
    if (summed.length > 0) all = all === undefined ? flat : engine.apply("add", "f32", [all, flat]);
    else all = engine.apply("select", "f32", [is, engine.reshape(flat, spread(lead, own)), all ?? zero]);
  }
  const axes = choice.filter((axis) => !summed.includes(axis));
  return {
    axes: [...axes, own],
    at: summed.length > 0 ? all! : engine.broadcastTo(all!, [...axes.map(size), size(own)]),
  };

  function maskedSum(value: T): Arranged<T> {
    const from = [...choice, inner];
    return sumAway(engine, engine.broadcastTo(value, from.map(size)), from, (axis) => summed.includes(axis), size);
  }
}
