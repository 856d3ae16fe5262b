/** What the lowerings of contractions for GPUs share: a contraction's axes by kind, and reading operands at an index of each. */
import { axisSizes, parseAxes } from "../../ir/axes.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import { cast, type Expr, num, op, ref } from "../../ir/kernel/kernel.ts";
import { assign, store, variable } from "../../ir/kernel/stmt.ts";
import { sizeOf } from "../../ir/types.ts";
import { contractOperands } from "../contract-operands.ts";
import type { Group } from "../fuse.ts";
import { flatten, unflatten } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

export interface Nest {
  readonly w: KernelWriter;
  readonly group: Group;
  readonly a: Node;
  readonly b: Node;
  readonly aAxes: readonly string[];
  readonly bAxes: readonly string[];
  readonly out: readonly string[];
  readonly sizes: ReadonlyMap<string, number>;
  readonly batch: readonly string[];
  readonly outer: readonly string[];
  readonly rows: readonly string[];
  readonly summed: readonly string[];
}

export type Index = ReadonlyMap<string, Expr>;

export function planNest(w: KernelWriter, group: Group): Nest {
  const { anchor } = group;
  const text = String(attrsOf(anchor).axes);
  const { ins, out, reduced } = parseAxes(text);
  const { a, b, swapped } = contractOperands(anchor);
  const [aAxes, bAxes] = swapped ? [ins[1]!, ins[0]!] : [ins[0]!, ins[1]!];
  return {
    w,
    group,
    a,
    b,
    aAxes,
    bAxes,
    out,
    sizes: axisSizes(
      text,
      anchor.ins.map((x) => x.type),
    ),
    batch: out.filter((axis) => aAxes.includes(axis) && bAxes.includes(axis)),
    outer: out.filter((axis) => aAxes.includes(axis) && !bAxes.includes(axis)),
    rows: out.filter((axis) => !aAxes.includes(axis)),
    // In the order in which b lies in memory.
    summed: [...reduced].sort((x, y) => bAxes.indexOf(x) - bAxes.indexOf(y)),
  };
}

export function sizesOf(nest: Nest, axes: readonly string[]): number[] {
  return axes.map((axis) => nest.sizes.get(axis)!);
}

export function countOf(nest: Nest, axes: readonly string[]): number {
  return sizeOf(sizesOf(nest, axes));
}

/** The indices along `axes` that `offset` stands for. */
export function indexOf(nest: Nest, axes: readonly string[], offset: Expr): Index {
  const idx = unflatten(offset, sizesOf(nest, axes));
  return new Map(axes.map((axis, i) => [axis, idx[i]!]));
}

export function read(nest: Nest, node: Node, axes: readonly string[], ...parts: readonly Index[]): Expr {
  const index = new Map(parts.flatMap((part) => [...part]));
  const value = nest.w.value(
    node,
    axes.map((axis) => index.get(axis)!),
  );
  return cast(nest.w.target.accumulator, value);
}

/** Loops over the batch. */
export function overBatch(nest: Nest, body: (batch: Index) => void): void {
  const enter = (at: number, index: Index): void => {
    const axis = nest.batch[at];
    if (axis === undefined) body(index);
    else nest.w.loop(axis, nest.sizes.get(axis)!, (i) => enter(at + 1, new Map([...index, [axis, i]])), "grid");
  };
  enter(0, new Map());
}

/** The epilogue of one finished sum, and its store. */
export function finish(nest: Nest, sum: Expr, ...parts: readonly Index[]): void {
  const { w, group, out } = nest;
  const index = new Map(parts.flatMap((part) => [...part]));
  const idx = out.map((axis) => index.get(axis)!);
  w.hold(group.anchor, () => cast("f32", sum));
  w.emit(store(w.out, flatten(idx, group.root.type.shape), w.value(group.root, idx)));
}

export function newSum(w: KernelWriter): Expr & { readonly k: "ref" } {
  const sum = ref(w.unique("acc"), w.target.accumulator);
  w.emit(variable(sum.name, num(w.target.accumulator, 0)));
  return sum as Expr & { readonly k: "ref" }; // made by `ref`
}

export function accumulate(w: KernelWriter, sum: Expr & { readonly k: "ref" }, a: Expr, b: Expr): void {
  w.emit(assign(sum.name, op("add", sum, op("mul", a, b))));
}
