/** Injective ops that move elements without changing them. */
import { names, reshapeRule } from "../axis-rule.ts";
import { IrError } from "../errors.ts";
import { defineOp, typeError } from "../op.ts";
import { reader, type Tensor, writer, zeros } from "../tensor.ts";
import { dtypeInfo, type Shape, sameShape, sizeOf, stridesOf, type TensorType, tensorType } from "../types.ts";

/** A new tensor whose element at `index` is the operand's at `source(index)`, a flat offset. */
function move(x: Tensor, type: TensorType, source: (index: readonly number[]) => number): Tensor {
  const out = zeros(type.dtype, type.shape);
  const [read, write] = [reader(x), writer(out)];
  const index = type.shape.map(() => 0);
  for (let i = 0; i < sizeOf(type.shape); i++) {
    write(i, read(source(index)));
    advance(index, type.shape);
  }
  return out;
}

/** Copies `count` elements that follow each other. */
function copyRun(x: Tensor, from: number, out: Tensor, to: number, count: number): void {
  if (dtypeInfo(x.type.dtype).bits >= 8) {
    out.data.set(x.data.subarray(from, from + count), to);
    return;
  }
  const [read, write] = [reader(x), writer(out)];
  for (let i = 0; i < count; i++) write(to + i, read(from + i));
}

/** The next index in row-major order. */
export function advance(index: number[], shape: Shape): void {
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index[axis] = index[axis]! + 1;
    if (index[axis]! < shape[axis]!) return;
    index[axis] = 0;
  }
}

const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

export const shapeOps = {
  reshape: defineOp({
    arity: 1,
    kind: "injective",
    view: true,
    attrs: { shape: "ints" },
    doc: "The same elements in row-major order under another shape.",
    axes: ([x], { shape }) => reshapeRule(x!.shape, shape),
    infer: ([x], { shape }) => {
      if (shape.some((dim) => dim < 0) || sizeOf(shape) !== sizeOf(x!.shape)) {
        throw typeError("reshape", `${sizeOf(shape)} elements for [${shape}]`, [x!]);
      }
      return tensorType(x!.dtype, shape);
    },
    evaluate: ([x], _, type) => ({ type, data: x!.data.slice() }),
  }),
  transpose: defineOp({
    arity: 1,
    kind: "injective",
    view: true,
    attrs: { perm: "ints" },
    doc: "Axis i of the result is axis `perm[i]` of the operand.",
    axes: ([x], { perm }) => {
      const own = names("a", x!.shape);
      return { ins: [own], out: perm.map((axis) => own[axis]!), linear: [[0]] };
    },
    infer: ([x], { perm }) => {
      if (
        !sameShape(
          [...perm].sort((a, b) => a - b),
          x!.shape.map((_, i) => i),
        )
      ) {
        throw typeError("transpose", `a rank that [${perm}] permutes`, [x!]);
      }
      return tensorType(
        x!.dtype,
        perm.map((axis) => x!.shape[axis]!),
      );
    },
    evaluate: ([x], { perm }, type) => {
      const strides = stridesOf(x!.type.shape);
      const permuted = perm.map((axis) => strides[axis]!);
      return move(x!, type, (index) => dot(index, permuted));
    },
  }),
  slice: defineOp({
    arity: 1,
    kind: "injective",
    view: true,
    attrs: { axis: "int", start: "int", stop: "int" },
    doc: "Elements `start` to `stop` (exclusive) along `axis`.",
    axes: ([x], { axis }) => {
      const own = names("a", x!.shape);
      return { ins: [own], out: own.with(axis, "part"), whole: [own[axis]!, "part"], linear: [[0]] };
    },
    infer: ([x], { axis, start, stop }) => {
      const size = x!.shape[axis];
      if (size === undefined || start < 0 || start > stop || stop > size) {
        throw typeError("slice", `an axis ${axis} that holds ${start}..${stop}`, [x!]);
      }
      return tensorType(x!.dtype, x!.shape.with(axis, stop - start));
    },
    evaluate: ([x], { axis, start }, type) => {
      const out = zeros(type.dtype, type.shape);
      const [count, inner] = [sizeOf(type.shape.slice(axis)), sizeOf(type.shape.slice(axis + 1))];
      for (let o = 0; o < sizeOf(type.shape.slice(0, axis)); o++) {
        copyRun(x!, (o * x!.type.shape[axis]! + start) * inner, out, o * count, count);
      }
      return out;
    },
  }),
  concat: defineOp({
    arity: "variadic",
    kind: "injective",
    attrs: { axis: "int" },
    doc: "The operands one after another along `axis`.",
    axes: (ins, { axis }) => {
      const own = names("a", ins[0]!.shape);
      const parts = ins.map((_, i) => `part${i}`);
      const linear = [ins.map((_, i) => i)];
      return { ins: parts.map((part) => own.with(axis, part)), out: own, whole: [own[axis]!, ...parts], linear };
    },
    infer: (ins, { axis }) => {
      const first = ins[0]!;
      const size = first.shape[axis];
      const rest = ({ shape }: TensorType) => shape.filter((_, i) => i !== axis);
      const fits = ins.every(
        (x) => x.dtype === first.dtype && x.shape.length === first.shape.length && sameShape(rest(x), rest(first)),
      );
      if (size === undefined || !fits) throw typeError("concat", `equal dtypes and shapes but for axis ${axis}`, ins);
      return tensorType(
        first.dtype,
        first.shape.with(
          axis,
          ins.reduce((sum, x) => sum + x.shape[axis]!, 0),
        ),
      );
    },
    evaluate: (ins, { axis }, type) => {
      const out = zeros(type.dtype, type.shape);
      let to = 0;
      for (let o = 0; o < sizeOf(type.shape.slice(0, axis)); o++) {
        for (const x of ins) {
          const count = sizeOf(x.type.shape.slice(axis));
          copyRun(x, o * count, out, to, count);
          to += count;
        }
      }
      return out;
    },
  }),
  broadcast: defineOp({
    arity: 1,
    kind: "injective",
    view: true,
    attrs: { shape: "ints" },
    doc: "Repeats along axes of size 1 and along new leading axes until the shape is `shape`.",
    axes: ([x], { shape }) => {
      const own = names("a", shape);
      const lead = shape.length - x!.shape.length;
      // An axis of size 1 that is repeated has elements of its own.
      const repeated = (dim: number, i: number) => dim !== shape[lead + i];
      const from = x!.shape.map((dim, i) => (repeated(dim, i) ? `one${i}` : own[lead + i]!));
      return { ins: [from], out: own, whole: from.filter((name) => name.startsWith("one")), linear: [[0]] };
    },
    infer: ([x], { shape }) => {
      const lead = shape.length - x!.shape.length;
      if (lead < 0 || !x!.shape.every((dim, i) => dim === 1 || dim === shape[lead + i])) {
        throw typeError("broadcast", `a shape that repeats to [${shape}]`, [x!]);
      }
      return tensorType(x!.dtype, shape);
    },
    evaluate: ([x], { shape }, type) => {
      const strides = stridesOf(x!.type.shape).map((stride, i) => (x!.type.shape[i] === 1 ? 0 : stride));
      const padded = [...new Array<number>(shape.length - strides.length).fill(0), ...strides];
      return move(x!, type, (index) => dot(index, padded));
    },
  }),
} as const;

/** Checks an axis number against a rank. */
export function checkAxis(op: string, axis: number, type: TensorType): void {
  if (axis < 0 || axis >= type.shape.length) throw new IrError(op, `axis ${axis} is outside rank ${type.shape.length}`);
}
