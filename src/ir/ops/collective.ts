/**
 * Collectives: what devices exchange. `over` names mesh axes ("tp", "dp tp"); the devices that differ along these alone
 * are a group of `parts`, and each has its own operand. `across` is the meaning: from the operands of a group, in order,
 * the result of each. On a single device all groups are of one, and every collective is its operand.
 */
import { IrError } from "../errors.ts";
import { defineOp, typeError } from "../op.ts";
import { reader, type Tensor, writer, zeros } from "../tensor.ts";
import { type Shape, sizeOf, type TensorType, tensorType } from "../types.ts";
import { shapeOps } from "./shape.ts";

const groupAttrs = { over: "string", parts: "int" } as const;

/** Part `i` of `parts` along an axis. */
function partOf(x: Tensor, axis: number, i: number, parts: number): Tensor {
  const size = x.type.shape[axis]! / parts;
  const attrs = { axis, start: i * size, stop: (i + 1) * size };
  return shapeOps.slice.evaluate!([x], attrs, tensorType(x.type.dtype, x.type.shape.with(axis, size)));
}

function joined(xs: readonly Tensor[], axis: number): Tensor {
  const type = shapeOps.concat.infer(
    xs.map((x) => x.type),
    { axis },
  );
  return shapeOps.concat.evaluate!(xs, { axis }, type);
}

const combine = {
  /** In the order of the group, in double, rounded once: the same result on every device. */
  sum: (values: readonly number[]) => values.reduce((total, x) => total + x),
  max: (values: readonly number[]) => values.reduce((most, x) => Math.max(most, x), Number.NEGATIVE_INFINITY),
} as const;
export type Combine = keyof typeof combine;

function isCombine(name: string): name is Combine {
  return Object.hasOwn(combine, name);
}

function reduced(group: readonly Tensor[], by: string): Tensor {
  const { type } = group[0]!;
  if (type.dtype === "f32" && by === "sum") return summed(group);
  const reads = group.map(reader);
  const out = zeros(type.dtype, type.shape);
  const write = writer(out);
  const together = combine[isCombine(by) ? by : "sum"];
  for (let i = 0; i < sizeOf(type.shape); i++) write(i, together(reads.map((read) => read(i))));
  return out;
}

/** The same sums, since between devices they are made all the time: a double is rounded by the store. */
function summed(group: readonly Tensor[]): Tensor {
  const { type } = group[0]!;
  const out = zeros(type.dtype, type.shape);
  const [first, second, ...others] = group.map(({ data }) => data as Float32Array); // the caller's condition
  const total = out.data;
  if (second === undefined) total.set(first!);
  else if (others.length === 0) for (let i = 0; i < total.length; i++) total[i] = first![i]! + second[i]!;
  else {
    for (let i = 0; i < total.length; i++) {
      let sum = first![i]! + second[i]!;
      for (const each of others) sum += each[i]!;
      total[i] = sum;
    }
  }
  return out;
}

function checkReduce(op: string, x: TensorType, by: string, parts: number): void {
  if (!["f32", "i32", "u32"].includes(x.dtype) || !isCombine(by) || parts < 1) {
    throw typeError(op, `f32, i32 or u32, by sum or max over at least one part (got ${JSON.stringify(by)}, ${parts})`, [
      x,
    ]);
  }
}

/** The shape with an axis divided; throws where it does not divide. */
function divided(op: string, x: TensorType, axis: number, parts: number): Shape {
  const size = x.shape[axis];
  if (size === undefined || parts < 1 || size % parts !== 0) {
    throw typeError(op, `an axis ${axis} that ${parts} parts divide`, [x]);
  }
  return x.shape.with(axis, size / parts);
}

function multiplied(op: string, x: TensorType, axis: number, parts: number): Shape {
  const size = x.shape[axis];
  if (size === undefined || parts < 1) throw typeError(op, `an axis ${axis} and at least one part`, [x]);
  return x.shape.with(axis, size * parts);
}

export const collectiveOps = {
  shard: defineOp({
    arity: 1,
    kind: "collective",
    attrs: { ...groupAttrs, axis: "int" },
    doc: "The device's own part of its operand along `axis`: part number i of `parts` equal ones, where i is its place in its group over `over`. Nothing is exchanged; for one device it is a `slice`.",
    infer: ([x], { axis, parts }) => tensorType(x!.dtype, divided("shard", x!, axis, parts)),
    across: (group, { axis, parts }) => group.map((x, i) => partOf(x, axis, i, parts)),
  }),
  allReduce: defineOp({
    arity: 1,
    kind: "collective",
    attrs: { ...groupAttrs, by: "string" },
    doc: "The elementwise sum or maximum (`by`) of the operands of a group, on every device of it. The interpreter adds in double, in the order of the group, and rounds once.",
    infer: ([x], { by, parts }) => {
      checkReduce("allReduce", x!, by, parts);
      return x!;
    },
    across: (group, { by }) => {
      const total = reduced(group, by);
      return group.map(() => total);
    },
  }),
  reduceScatter: defineOp({
    arity: 1,
    kind: "collective",
    attrs: { ...groupAttrs, by: "string", axis: "int" },
    doc: "`shard` of `allReduce`: every device gets its own part, along `axis`, of the sum or maximum of the group's operands.",
    infer: ([x], { by, axis, parts }) => {
      checkReduce("reduceScatter", x!, by, parts);
      return tensorType(x!.dtype, divided("reduceScatter", x!, axis, parts));
    },
    across: (group, { by, axis, parts }) => {
      const total = reduced(group, by);
      return group.map((_, i) => partOf(total, axis, i, parts));
    },
  }),
  allGather: defineOp({
    arity: 1,
    kind: "collective",
    attrs: { ...groupAttrs, axis: "int" },
    doc: "The operands of a group one after another along `axis`, on every device of it.",
    gathers: true,
    infer: ([x], { axis, parts }) => tensorType(x!.dtype, multiplied("allGather", x!, axis, parts)),
    across: (group, { axis }) => {
      const all = joined(group, axis);
      return group.map(() => all);
    },
  }),
  allToAll: defineOp({
    arity: 1,
    kind: "collective",
    attrs: { ...groupAttrs, split: "int", concat: "int" },
    doc: "Each device cuts its operand along axis `split` into one part per device of the group, sends part i to device i, and joins what it gets along axis `concat`: what was divided along `concat` is now divided along `split`.",
    infer: ([x], { split, concat, parts }) => {
      if (split === concat) throw new IrError("allToAll", `split and concat are the same axis ${split}`);
      const cut = tensorType(x!.dtype, divided("allToAll", x!, split, parts));
      return tensorType(x!.dtype, multiplied("allToAll", cut, concat, parts));
    },
    across: (group, { split, concat, parts }) =>
      group.map((_, i) =>
        joined(
          group.map((x) => partOf(x, split, i, parts)),
          concat,
        ),
      ),
  }),
  send: defineOp({
    arity: 1,
    kind: "collective",
    transfer: "send",
    attrs: { stage: "int", channel: "int" },
    doc: "Sends the operand to the device at the same place in another pipeline stage, `channel` telling one message from another; the result is the operand.",
    infer: ([x]) => x!,
  }),
  receive: defineOp({
    arity: 0,
    kind: "source",
    transfer: "receive",
    attrs: { stage: "int", channel: "int", dtype: "dtype", shape: "ints" },
    doc: "What the device at the same place in pipeline stage `stage` sends on `channel`.",
    infer: (_, { dtype, shape }) => tensorType(dtype, shape),
  }),
} as const;
