/** Rows of the ops that compute: sources, elementwise ops, reductions, contractions. */
import { axisSizes, parseAxes } from "../../ir/axes.ts";
import { type ScalarOp, scalarOps } from "../../ir/scalar.ts";
import { type DType, type Shape, sizeOf } from "../../ir/types.ts";
import type { Computed, TensorEngine } from "./engine.ts";
import { type Row, spreadShape, whole } from "./row.ts";

const computed: readonly DType[] = ["f32", "i32", "bool"] satisfies Computed[];

/** Narrows a dtype that type rules and legalize have restricted. */
export function computedDType(dtype: DType): Computed {
  if (computed.includes(dtype)) return dtype as Computed; // checked by the line
  return "f32";
}

export const sourceRows = {
  full: (engine, _, { attrs: { dtype, value } }) => {
    const kind = computedDType(dtype);
    const filled = engine.fill(kind, value);
    return { at: kind === dtype ? filled : engine.cast(filled, kind, dtype), shape: [] };
  },
  iota: (engine, _, { attrs: { dtype, shape, axis } }) => {
    const own = [shape[axis]!, ...shape.slice(axis + 1).map(() => 1)];
    const counted = engine.reshape(engine.iota(shape[axis]!), own);
    return { at: dtype === "i32" ? counted : engine.cast(counted, "i32", dtype), shape: own };
  },
} as const satisfies { readonly full: Row<"full">; readonly iota: Row<"iota"> };

function elementwise(op: ScalarOp): Row<ScalarOp> {
  return (engine, ins, node) => ({
    at: engine.apply(
      op,
      computedDType(node.ins.at(-1)!.type.dtype),
      ins.map(({ at }) => at),
    ),
    shape: spreadShape(ins.map(({ shape }) => shape)),
  });
}

// fromEntries forgets the keys; they are those of scalarOps by construction.
const scalarRows = Object.fromEntries(
  Object.keys(scalarOps).map((name) => [name, elementwise(name as ScalarOp)]),
) as Record<ScalarOp, Row<ScalarOp>>;

export const elementwiseRows = {
  ...scalarRows,
  cast: (engine, [x], { ins, type }) => ({
    at: engine.cast(x!.at, ins[0]!.type.dtype, type.dtype),
    shape: x!.shape,
  }),
} as const satisfies Record<ScalarOp, Row<ScalarOp>> & { readonly cast: Row<"cast"> };

export const reduceRows = {
  reduceSum: whole((engine, [x], { ins, type }) =>
    ins[0]!.type.shape.at(-1) === 0 ? filled(engine, 0, type.shape) : engine.reduceSum(x!),
  ),
  reduceMax: whole((engine, [x], { ins, type }) =>
    ins[0]!.type.shape.at(-1) === 0 ? filled(engine, Number.NEGATIVE_INFINITY, type.shape) : engine.reduceMax(x!),
  ),
  argMax: whole((engine, [x]) => engine.argMax(x!)),
  topKValues: whole((engine, [x], { attrs: { k } }) => engine.topK(x!, k).values),
  topKIndices: whole((engine, [x], { attrs: { k } }) => engine.topK(x!, k).indices),
} as const satisfies {
  readonly reduceSum: Row<"reduceSum">;
  readonly reduceMax: Row<"reduceMax">;
  readonly argMax: Row<"argMax">;
  readonly topKValues: Row<"topKValues">;
  readonly topKIndices: Row<"topKIndices">;
};

function filled<T>(engine: TensorEngine<T>, value: number, shape: Shape): T {
  return engine.broadcastTo(engine.fill("f32", value), shape);
}

/** An operand with its axes in some order, summed over those that are its own and not in the result. */
export interface Arranged<T> {
  readonly at: T;
  readonly axes: readonly string[];
}

/**
 * A batched matrix product: axes of both operands and the result are the batch, those of both and not of the result are
 * summed, others are rows of one operand or the other. Operands whose axes stand in such an order are only reshaped.
 */
export const contractRow: Row<"contract"> = whole((engine, [a, b], { ins, attrs, type }) => {
  const { ins: axes, out } = parseAxes(attrs.axes);
  const sizes = axisSizes(
    attrs.axes,
    ins.map((x) => x.type),
  );
  const size = (axis: string) => sizes.get(axis)!;
  if (sizeOf([...sizes.values()]) === 0) return filled(engine, 0, type.shape);
  const sides = [0, 1].map((i) => {
    const lone = (axis: string) => !out.includes(axis) && !axes[1 - i]!.includes(axis);
    return sumAway(engine, [a!, b!][i]!, axes[i]!, lone, size);
  });
  const [left, right] = [sides[0]!, sides[1]!];
  const batch = out.filter((axis) => left.axes.includes(axis) && right.axes.includes(axis));
  const shared = left.axes.filter((axis) => right.axes.includes(axis) && !out.includes(axis));
  const [rows, columns] = [left, right].map(({ axes: own }) =>
    out.filter((axis) => own.includes(axis) && !batch.includes(axis)),
  );
  const larger = sizeOf(left.axes.map(size)) > sizeOf(right.axes.map(size)) ? left.axes : right.axes;
  const own = larger === left.axes ? rows! : columns!;
  // Axes that stand before the larger operand's own are multiplied apart and summed afterwards, which saves moving it.
  const fits = (first: readonly string[], last: readonly string[]) =>
    [
      [...batch, ...first, ...own, ...last],
      [...batch, ...first, ...last, ...own],
    ].some((order) => !moves(larger, order, size));
  const cut = shared.findIndex((_, i) => fits(shared.slice(0, i), shared.slice(i)));
  const [apart, inner] = [shared.slice(0, Math.max(cut, 0)), shared.slice(Math.max(cut, 0))];
  const lead = [...batch, ...apart];
  const matrix = ({ at, axes: from }: Arranged<typeof a>, own: readonly string[]) => {
    // The sum last, unless the operand has it before its rows already.
    const transposed =
      moves(from, [...lead, ...own, ...inner], size) && !moves(from, [...lead, ...inner, ...own], size);
    const [first, second] = transposed ? [inner, own] : [own, inner];
    const ordered = arrange(engine, at!, from, [...lead, ...first, ...second], size);
    const product = (list: readonly string[]) => sizeOf(list.map(size));
    return { at: engine.reshape(ordered, [product(lead), product(first), product(second)]), innerFirst: transposed };
  };
  const [x, y] = [matrix(left, rows!), matrix(right, columns!)];
  const product = engine.matMul(x.at, y.at, { transposeA: x.innerFirst, transposeB: !y.innerFirst });
  const order = [...lead, ...rows!, ...columns!];
  const summed = sumAway(engine, engine.reshape(product, order.map(size)), order, (axis) => apart.includes(axis), size);
  return engine.reshape(arrange(engine, summed.at, summed.axes, out, size), type.shape);
});

/** Sums over some axes. */
export function sumAway<T>(
  engine: TensorEngine<T>,
  at: T,
  axes: readonly string[],
  gone: (axis: string) => boolean,
  size: (axis: string) => number,
): Arranged<T> {
  const kept = axes.filter((axis) => !gone(axis));
  if (kept.length === axes.length) return { at, axes };
  const rest = axes.filter(gone);
  const last = arrange(engine, at, axes, [...kept, ...rest], size);
  return { at: engine.reduceSum(engine.reshape(last, [...kept.map(size), sizeOf(rest.map(size))])), axes: kept };
}

/** Whether elements change places when the axes do: axes of size 1 move freely. */
function moves(from: readonly string[], to: readonly string[], size: (axis: string) => number): boolean {
  const wide = (axis: string) => size(axis) > 1;
  return from.filter(wide).join(" ") !== to.filter(wide).join(" ");
}

/** The operand with its axes in the order of `to`. */
export function arrange<T>(
  engine: TensorEngine<T>,
  x: T,
  from: readonly string[],
  to: readonly string[],
  size: (axis: string) => number,
): T {
  if (from.join(" ") === to.join(" ")) return x;
  if (!moves(from, to, size)) return engine.reshape(x, to.map(size));
  return engine.transpose(
    x,
    to.map((axis) => from.indexOf(axis)),
  );
}
