/** What TensorFlow's ops that move elements do, in plain loops. Indices outside are errors, as on a CPU. */
import { type Shape, sizeOf, stridesOf } from "../../../src/ir/types.ts";
import { intOf, type Op, typeOf } from "./graph-ops-math.ts";
import { type GraphData, indicesOf, make, offsetOf, read, valuesOf } from "./graph-values.ts";

function built(x: GraphData, shape: Shape, from: (index: readonly number[]) => number): GraphData {
  const out: number[] = [];
  for (const index of indicesOf(shape)) out.push(read(x, from(index)));
  return make(x.type, shape, out);
}

export function flat(index: readonly number[], shape: Shape): number {
  for (const [axis, i] of index.entries()) {
    if (!(i >= 0 && i < shape[axis]!)) throw new Error(`index ${index} outside [${shape}]`);
  }
  const strides = stridesOf(shape);
  return index.reduce((sum, i, axis) => sum + i * strides[axis]!, 0);
}

/** Rows of x along axis `batch`, with `batch` axes in common. */
export function gathered(x: GraphData, index: GraphData, batch: number): GraphData {
  if (index.type !== "int32") throw new Error("expected int32 indices");
  const rank = index.shape.length;
  const shape = [...x.shape.slice(0, batch), ...index.shape.slice(batch), ...x.shape.slice(batch + 1)];
  return built(x, shape, (at) => {
    const row = read(index, flat(at.slice(0, rank), index.shape));
    return flat([...at.slice(0, batch), row, ...at.slice(rank)], x.shape);
  });
}

/** `x` with rows replaced. Equal indices would leave the choice to the device, but for the last row, which nobody reads. */
export function scattered(x: GraphData, index: readonly number[], rows: GraphData): GraphData {
  const values = valuesOf(x);
  const width = sizeOf(x.shape.slice(1));
  const seen = new Set<number>();
  for (const [i, row] of index.entries()) {
    if (!(row >= 0 && row < x.shape[0]!)) throw new Error(`row ${row} of ${x.shape[0]}`);
    if (seen.has(row) && row !== x.shape[0]! - 1) throw new Error(`row ${row} is written twice`);
    seen.add(row);
    for (let j = 0; j < width; j++) values[row * width + j] = read(rows, i * width + j);
  }
  return make(x.type, x.shape, values);
}

export const moveOps: Readonly<Record<string, Op>> = {
  Identity: ([x]) => [x!],
  Reshape: ([x, shape]) => [make(x!.type, valuesOf(shape!), valuesOf(x!))],
  Transpose: ([x, perm], attrs) => {
    if (typeOf(attrs, "Tperm") !== perm!.type) throw new Error("the type of the permutation");
    const order = valuesOf(perm!);
    const shape = order.map((axis) => x!.shape[axis]!);
    return [
      built(x!, shape, (at) =>
        flat(
          x!.shape.map((_, axis) => at[order.indexOf(axis)]!),
          x!.shape,
        ),
      ),
    ];
  },
  Slice: ([x, begin, size]) => {
    const from = valuesOf(begin!);
    return [
      built(x!, valuesOf(size!), (at) =>
        flat(
          at.map((i, axis) => i + from[axis]!),
          x!.shape,
        ),
      ),
    ];
  },
  ConcatV2: (ins, attrs) => {
    const parts = ins.slice(0, -1);
    const axis = valuesOf(ins.at(-1)!)[0]!;
    if (intOf(attrs, "N") !== parts.length) throw new Error("the number of operands");
    const shape = parts[0]!.shape.with(
      axis,
      parts.reduce((sum, part) => sum + part.shape[axis]!, 0),
    );
    const out: number[] = [];
    for (const at of indicesOf(shape)) {
      let [i, part] = [at[axis]!, 0];
      while (i >= parts[part]!.shape[axis]!) i -= parts[part++]!.shape[axis]!;
      out.push(read(parts[part]!, flat(at.with(axis, i), parts[part]!.shape)));
    }
    return [make(parts[0]!.type, shape, out)];
  },
  BroadcastTo: ([x, shape]) => [built(x!, valuesOf(shape!), (at) => offsetOf(at, x!.shape))],
  GatherV2: ([x, index, axis], attrs) => {
    const batch = intOf(attrs, "batch_dims");
    if (valuesOf(axis!)[0] !== batch) throw new Error("expected the axis after those of the batch");
    return [gathered(x!, index!, batch)];
  },
  TensorScatterUpdate: ([x, index, rows]) => {
    if (index!.shape.length !== 2 || index!.shape[1] !== 1) throw new Error("expected one index to a row");
    return [scattered(x!, valuesOf(index!), rows!)];
  },
};
