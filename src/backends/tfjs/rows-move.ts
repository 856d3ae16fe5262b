/** Rows of the ops that move elements: shapes and indices. */
import { sizeOf } from "../../ir/types.ts";
import type { TensorEngine } from "./engine.ts";
import { moving, type Row, whole, wholeOf } from "./row.ts";

export const shapeRows = {
  reshape: moving((engine, [x], { type }) => engine.reshape(x!, type.shape)),
  transpose: moving((engine, [x], { ins, attrs: { perm }, type }) => {
    const { shape } = ins[0]!.type;
    // Axes of size 1 move freely.
    const wide = perm.filter((axis) => shape[axis]! > 1);
    return wide.every((axis, i) => i === 0 || axis > wide[i - 1]!)
      ? engine.reshape(x!, type.shape)
      : engine.transpose(x!, perm);
  }),
  slice: moving((engine, [x], { attrs: { axis, start }, type }) =>
    engine.slice(
      x!,
      type.shape.map((_, i) => (i === axis ? start : 0)),
      type.shape,
    ),
  ),
  concat: whole((engine, xs, { ins, attrs: { axis } }) => {
    const parts = xs.filter((_, i) => sizeOf(ins[i]!.type.shape) > 0);
    return engine.concat(parts.length === 0 ? xs.slice(0, 1) : parts, axis);
  }),
  /** A value that stands for its repetition already. */
  broadcast: (_, [x]) => x!,
} as const satisfies {
  readonly reshape: Row<"reshape">;
  readonly transpose: Row<"transpose">;
  readonly slice: Row<"slice">;
  readonly concat: Row<"concat">;
  readonly broadcast: Row<"broadcast">;
};

export const indexRows = {
  gather: whole((engine, [x, index], { ins }) => engine.gather(x!, clamped(engine, index!, ins[0]!.type.shape[0]!), 0)),
  takeAlong: whole((engine, [x, index], { ins, type }) => {
    const [size, k] = [ins[0]!.type.shape.at(-1)!, type.shape.at(-1)!];
    const rows = sizeOf(type.shape.slice(0, -1));
    const at = clamped(engine, engine.reshape(index!, [rows, k]), size);
    return engine.reshape(engine.gather(engine.reshape(x!, [rows, size]), at, 1), type.shape);
  }),
  updateRows: (engine, ins, node) => {
    const [x, rows, slots] = ins.map((part, i) => wholeOf(engine, part, node.ins[i]!.type.shape));
    return { at: engine.updateRows(x!, rows!, slots!, ins[0]!.dead === true), shape: node.type.shape };
  },
} as const satisfies {
  readonly gather: Row<"gather">;
  readonly takeAlong: Row<"takeAlong">;
  readonly updateRows: Row<"updateRows">;
};

/** Indices within 0 .. size - 1. */
export function clamped<T>(engine: TensorEngine<T>, index: T, size: number): T {
  const above = engine.apply("max", "i32", [index, engine.fill("i32", 0)]);
  return engine.apply("min", "i32", [above, engine.fill("i32", size - 1)]);
}
