/** The engine that runs each primitive at once in TensorFlow.js. Whoever uses it has made its backend the current one. */
import type { ScalarOp } from "../../ir/scalar.ts";
import { reader, type TensorData, tensorFrom, writer, zeros } from "../../ir/tensor.ts";
import { type Shape, sizeOf, type TensorType } from "../../ir/types.ts";
import { type CastOptions, carrierOf, castTensor } from "./cast.ts";
import type { Computed, TensorEngine } from "./engine.ts";
import { type Elements, gatherRows, overwriteRows, sliceRows, spreadElements } from "./host-moves.ts";
import { scalarRows, selectInt } from "./scalar.ts";
import type { Tf, TfData, TfDType, TfTensor } from "./tf.ts";

const carriers: Record<Computed, TfDType> = { f32: "float32", i32: "int32", bool: "bool" };

/** What engines differ in. */
export interface EagerOptions extends CastOptions {
  /** The elements themselves, for engines whose tensors are in this process' memory. They may be written. */
  readonly elements?: Elements;
  /** Whether reading a value means waiting for another device. */
  readonly remote?: boolean;
}

export function eagerEngine(tf: Tf, options: EagerOptions): TensorEngine<TfTensor> {
  const { elements } = options;
  const gather = (x: TfTensor, index: TfTensor) =>
    elements === undefined ? tf.gather(x, index, 0, 0) : gatherRows(tf, elements, x, index);
  return {
    constant: (type, data) => tf.tensor(unpacked(type, data), [...type.shape], carrierOf(type.dtype)),
    fill: (dtype, value) => tf.scalar(storedValue(dtype, value), carriers[dtype]),
    iota: (n) => tf.range(0, n, 1, "int32"),
    apply: (op: ScalarOp, dtype, [x, y, z]) => scalarRows[op](tf, dtype, x!, y!, z!), // as many as the op takes
    cast: (x, from, to) => castTensor(tf, x, from, to, options),
    matMul: (a, b, { transposeA, transposeB }) => tf.matMul(a, b, transposeA, transposeB),
    chosen: options.remote ? { by: "masked" } : { by: "grouped", read: (index) => index.dataSync() },
    reduceSum: (x) => tf.sum(x, x.shape.length - 1),
    reduceMax: (x) => tf.max(x, x.shape.length - 1),
    argMax: (x) => tf.argMax(numbers(tf, x), x.shape.length - 1),
    topK: (x, k) => topK(tf, gather, x, k),
    reshape: (x, shape) => tf.reshape(x, [...shape]),
    transpose: (x, perm) => tf.transpose(x, [...perm]),
    slice: (x, begin, size) => {
      const rows = elements === undefined ? undefined : sliceRows(tf, elements, x, begin, size);
      return rows ?? tf.slice(x, [...begin], [...size]);
    },
    concat: (xs, axis) => tf.concat([...xs], axis),
    broadcastTo: (x, shape) => {
      const spread = elements === undefined ? undefined : spreadElements(tf, elements, x, shape);
      return spread ?? tf.broadcastTo(x, [...shape]);
    },
    gather: (x, index, batch) => (batch === 0 ? gather(x, index) : gatherInBatch(tf, gather, x, index, batch)),
    updateRows: (x, rows, slots, dead) => {
      return dead && elements !== undefined
        ? overwriteRows(tf, elements, x, rows, slots)
        : updateRows(tf, x, rows, slots);
    },
    scope: (make) => tf.tidy(make),
    dispose: (x) => x.dispose(),
  };
}

/** For comparisons in which NaN counts as -inf. */
function numbers(tf: Tf, x: TfTensor): TfTensor {
  return tf.where(tf.equal(x, x), x, tf.scalar(Number.NEGATIVE_INFINITY, "float32"));
}

type Gather = (x: TfTensor, index: TfTensor) => TfTensor;

/** Values are gathered, so that a NaN is one. */
function topK(
  tf: Tf,
  gather: Gather,
  x: TfTensor,
  k: number,
): { readonly values: TfTensor; readonly indices: TfTensor } {
  // Engines may compare by differences, which infinities have none of.
  const f32 = (value: number) => tf.scalar(value, "float32");
  const finite = tf.minimum(tf.maximum(numbers(tf, x), f32(-largestF32)), f32(largestF32));
  const { indices } = tf.topk(finite, k, true);
  return { values: gatherInBatch(tf, gather, x, indices, x.shape.length - 1), indices };
}

const largestF32 = (2 - 2 ** -23) * 2 ** 127;

/** By rows of the batches laid end to end: not every engine has the attribute for it right. */
function gatherInBatch(tf: Tf, gather: Gather, x: TfTensor, index: TfTensor, batch: number): TfTensor {
  const [lead, rest] = [x.shape.slice(0, batch), x.shape.slice(batch)];
  const [size, ...row] = rest as [number, ...number[]]; // an axis is indexed
  const count = sizeOf(lead);
  const inner = index.shape.slice(batch);
  const flat = tf.reshape(x, [count * size, ...row]);
  const starts = tf.mul(tf.range(0, count, 1, "int32"), tf.scalar(size, "int32"));
  const at = tf.add(tf.reshape(index, [count, sizeOf(inner)]), tf.reshape(starts, [count, 1]));
  return tf.reshape(gather(flat, tf.reshape(at, [count * sizeOf(inner)])), [...lead, ...inner, ...row]);
}

/** Rows are written to a copy with one row more, which takes those that are dropped and is dropped itself. */
function updateRows(tf: Tf, x: TfTensor, rows: TfTensor, slots: TfTensor): TfTensor {
  const [size, ...row] = x.shape as readonly [number, ...number[]]; // at least one axis, by the op's type rule
  const n = slots.shape[0]!;
  if (n === 0 || sizeOf(x.shape) === 0) return tf.reshape(x, [...x.shape]);
  const int = (value: number) => tf.scalar(value, "int32");
  const inside = tf.logicalAnd(tf.greaterEqual(slots, int(0)), tf.less(slots, int(size)));
  const kept = selectInt(tf, n === 1 ? inside : tf.logicalAnd(inside, lastOfEquals(tf, slots, n)), slots, int(size));
  const spare = tf.slice(
    rows,
    rows.shape.map(() => 0),
    [1, ...row],
  );
  const copy = tf.concat([x, spare], 0);
  const written = tf.tensorScatterUpdate(copy, tf.reshape(kept, [n, 1]), rows);
  return tf.slice(
    written,
    x.shape.map(() => 0),
    [...x.shape],
  );
}

/** bool[n]: whether no later slot is the same. Devices write rows in any order. */
function lastOfEquals(tf: Tf, slots: TfTensor, n: number): TfTensor {
  const positions = tf.range(0, n, 1, "int32");
  const equal = tf.equal(tf.reshape(slots, [n, 1]), tf.reshape(slots, [1, n]));
  const later = tf.less(tf.reshape(positions, [n, 1]), tf.reshape(positions, [1, n]));
  const repeats = tf.sum(tf.cast(tf.logicalAnd(equal, later), "int32"), 1);
  return tf.equal(repeats, tf.scalar(0, "int32"));
}

/** A number as the tensor keeps it. */
function storedValue(dtype: Computed, value: number): number {
  const tensor = zeros(dtype, [1]);
  writer(tensor)(0, value);
  return tensor.data[0]!;
}

/** Elements as what carries them has them: the array itself where that is the same. */
export function unpacked(type: TensorType, data: TensorData): TfData {
  const { dtype, shape } = type;
  if (dtype === "f32" || dtype === "i32" || dtype === "bool") return data as TfData; // by `tensorFrom`
  const size = sizeOf(shape);
  const values = carrierOf(dtype) === "float32" ? new Float32Array(size) : new Int32Array(size);
  const read = reader(tensorFrom(type, data));
  for (let i = 0; i < size; i++) values[i] = read(i);
  return values;
}

/** Writes what a tensor came out as to where a value of the type is stored. */
export function storeValues(
  { dtype, shape }: { dtype: TensorType["dtype"]; shape: Shape },
  from: TfData,
  into: TensorData,
): void {
  if (dtype === "f32" || dtype === "i32") {
    into.set(from);
    return;
  }
  const write = writer({ type: { dtype, shape }, data: into });
  for (let i = 0; i < from.length; i++) write(i, from[i]!);
}
