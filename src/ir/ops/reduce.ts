/** Reductions along axes. */
import { names, reduceRule } from "../axis-rule.ts";
import { defineOp, typeError } from "../op.ts";
import { reader, type Tensor, writer, zeros } from "../tensor.ts";
import { sizeOf, type TensorType, tensorType } from "../types.ts";

/** Runs `body(row)` over the elements of each last-axis row of `x`; the result has one row of `width` per row of `x`. */
function perRow(x: Tensor, type: TensorType, width: number, body: (row: number[]) => readonly number[]): Tensor {
  const out = zeros(type.dtype, type.shape);
  const [read, write] = [reader(x), writer(out)];
  const length = x.type.shape.at(-1)!;
  for (let i = 0; i < sizeOf(x.type.shape.slice(0, -1)); i++) {
    const row = Array.from({ length }, (_, j) => read(i * length + j));
    for (const [j, value] of body(row).entries()) write(i * width + j, value);
  }
  return out;
}

function reduceLast(op: string, doc: string, by: "sum" | "max", combine: (row: readonly number[]) => number) {
  return defineOp({
    arity: 1,
    kind: "reduce",
    attrs: {},
    doc,
    axes: ([x]) => reduceRule(x!.shape, by),
    infer: ([x]) => {
      if (x!.dtype !== "f32" || x!.shape.length === 0) throw typeError(op, "f32 of rank 1 or more", [x!]);
      return tensorType("f32", x!.shape.slice(0, -1));
    },
    evaluate: ([x], _, type) => perRow(x!, type, 1, (row) => [combine(row)]),
  });
}

function topK(op: string, doc: string, pick: "value" | "index") {
  return defineOp({
    arity: 1,
    kind: "opaque",
    attrs: { k: "int" },
    doc,
    axes: ([x]) => {
      const [own, chosen] = [names("a", x!.shape), "k"];
      return { ins: [own], out: own.with(-1, chosen), whole: [own.at(-1)!, chosen] };
    },
    infer: ([x], { k }) => {
      const size = x!.shape.at(-1);
      if (x!.dtype !== "f32" || size === undefined || k < 1 || k > size) {
        throw typeError(op, `f32 with a last axis of at least k = ${k}`, [x!]);
      }
      return tensorType(pick === "value" ? "f32" : "i32", [...x!.shape.slice(0, -1), k]);
    },
    evaluate: ([x], { k }, type) =>
      perRow(x!, type, k, (row) => {
        const order = largestFirst(row).slice(0, k);
        return pick === "index" ? order : order.map((i) => row[i]!);
      }),
  });
}

/** Indices by falling value; of equal values the lower index first; NaN counts as -inf. */
function largestFirst(row: readonly number[]): number[] {
  const rank = (i: number) => (Number.isNaN(row[i]) ? Number.NEGATIVE_INFINITY : row[i]!);
  return row.map((_, i) => i).sort((a, b) => (rank(a) === rank(b) ? a - b : rank(b) > rank(a) ? 1 : -1));
}

export const reduceOps = {
  reduceSum: reduceLast(
    "reduceSum",
    "Sum along the last axis. The interpreter adds in double and rounds once; a device may add in f32 in any order.",
    "sum",
    (row) => row.reduce((sum, x) => sum + x, 0),
  ),
  reduceMax: reduceLast(
    "reduceMax",
    "Largest element along the last axis; -inf for none, NaN if any is NaN.",
    "max",
    (row) => row.reduce((most, x) => Math.max(most, x), Number.NEGATIVE_INFINITY),
  ),
  argMax: defineOp({
    arity: 1,
    kind: "opaque",
    attrs: {},
    doc: "Index of the largest element along the last axis, the lowest of equals; NaN counts as -inf.",
    axes: ([x]) => reduceRule(x!.shape, "whole"),
    infer: ([x]) => {
      if (x!.dtype !== "f32" || !(x!.shape.at(-1)! > 0))
        throw typeError("argMax", "f32 with a last axis that is not empty", [x!]);
      return tensorType("i32", x!.shape.slice(0, -1));
    },
    evaluate: ([x], _, type) => perRow(x!, type, 1, (row) => largestFirst(row).slice(0, 1)),
  }),
  topKValues: topK(
    "topKValues",
    "The k largest elements along the last axis, largest first; see topKIndices.",
    "value",
  ),
  topKIndices: topK(
    "topKIndices",
    "Indices of the k largest elements along the last axis, largest first; of equal elements the lower index comes first; NaN counts as -inf.",
    "index",
  ),
} as const;
