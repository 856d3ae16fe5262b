/** Elementwise ops: one per scalar op, and `cast`. Operands have equal shapes; broadcasting is an op of its own. */
import { sameAxes } from "../axis-rule.ts";
import { IrError } from "../errors.ts";
import { defineOp, type OpDef, typeError } from "../op.ts";
import { evalScalar, type OperandClass, type ScalarOp, type ScalarOpDef, scalarOps } from "../scalar.ts";
import { reader, type Tensor, writer, zeros } from "../tensor.ts";
import { type DType, sameShape, sizeOf, type TensorType, tensorType } from "../types.ts";

/** Arithmetic is defined on these; other dtypes are storage and are cast first. */
const classes: Record<OperandClass, readonly DType[]> = {
  float: ["f32"],
  number: ["f32", "i32", "u32"],
  bool: ["bool"],
  any: ["f32", "i32", "u32", "bool"],
};

/** Where an op is linear: sums that are still spread over devices may be added, or multiplied by what all have. */
const linearIn: Partial<Record<ScalarOp, readonly (readonly number[])[]>> = {
  add: [[0, 1]],
  sub: [[0, 1]],
  neg: [[0]],
  mul: [[0], [1]],
  div: [[0]],
};

function elementwise(scalar: ScalarOp): OpDef<Record<never, never>> {
  const def: ScalarOpDef = scalarOps[scalar];
  return defineOp({
    arity: def.arity,
    kind: "elementwise",
    attrs: {},
    doc: `\`${scalar}\` of each element.`,
    scalar,
    commutative: def.commutative ?? false,
    axes: (ins) => sameAxes(ins.length, ins[0]!.shape, linearIn[scalar]),
    infer: (ins) => inferScalar(scalar, def, ins),
    evaluate: (ins, _, type) => {
      const reads = ins.map(reader);
      return fill(type, (i) =>
        evalScalar(
          scalar,
          ins.at(-1)!.type.dtype,
          reads.map((read) => read(i)),
        ),
      );
    },
  });
}

function inferScalar(scalar: ScalarOp, def: ScalarOpDef, ins: readonly TensorType[]): TensorType {
  const operands = scalar === "select" ? ins.slice(1) : ins;
  const { dtype, shape } = operands[0]!;
  const fits =
    ins.every((type) => sameShape(type.shape, shape)) &&
    operands.every((type) => type.dtype === dtype) &&
    classes[def.operands].includes(dtype) &&
    (scalar !== "select" || ins[0]!.dtype === "bool");
  if (!fits) {
    const what = scalar === "select" ? "a bool and two operands" : `${def.arity} operand(s)`;
    throw typeError(scalar, `${what} of one shape and one dtype of ${classes[def.operands].join(", ")}`, ins);
  }
  return tensorType(def.result === "bool" ? "bool" : dtype, shape);
}

/** A new tensor whose element i is `value(i)`. */
function fill(type: TensorType, value: (i: number) => number): Tensor {
  const out = zeros(type.dtype, type.shape);
  const write = writer(out);
  const size = sizeOf(type.shape);
  for (let i = 0; i < size; i++) write(i, value(i));
  return out;
}

// fromEntries forgets the keys; they are those of scalarOps by construction.
const scalars = Object.fromEntries(
  Object.keys(scalarOps).map((name) => [name, elementwise(name as ScalarOp)]),
) as Record<ScalarOp, OpDef<Record<never, never>>>;

export const elementwiseOps = {
  ...scalars,
  cast: defineOp({
    arity: 1,
    kind: "elementwise",
    attrs: { dtype: "dtype" },
    doc: "Converts each element: floats round to nearest even, integers truncate and saturate, NaN becomes 0.",
    axes: ([x]) => sameAxes(1, x!.shape),
    infer: ([x], { dtype }) => {
      if (x!.dtype === "f8e8m0" && dtype === "f8e8m0") throw new IrError("cast", "to the same dtype");
      return tensorType(dtype, x!.shape);
    },
    evaluate: ([x], _, type) => fill(type, reader(x!)),
  }),
} as const;
