/** Where values come from: parameters, weights, constants, and the results of calls. */
import { defineOp } from "../op.ts";
import { roundTo } from "../scalar.ts";
import { tensorOf, writer, zeros } from "../tensor.ts";
import { sizeOf, stridesOf, tensorType } from "../types.ts";
import { checkAxis } from "./shape.ts";

export const coreOps = {
  param: defineOp({
    arity: 0,
    kind: "source",
    attrs: { name: "string", dtype: "dtype", shape: "ints" },
    doc: "A parameter of the function.",
    infer: (_, { dtype, shape }) => tensorType(dtype, shape),
  }),
  weight: defineOp({
    arity: 0,
    kind: "source",
    attrs: { name: "string", dtype: "dtype", shape: "ints" },
    doc: "A tensor of the checkpoint. `{layer}` in the name is the `layer` of the call; `{0}` stands for the index along axis 0: one checkpoint tensor per index, stacked.",
    infer: (_, { dtype, shape }) => tensorType(dtype, shape),
  }),
  full: defineOp({
    arity: 0,
    kind: "source",
    attrs: { dtype: "dtype", shape: "ints", value: "number" },
    doc: "Every element is `value`.",
    infer: (_, { dtype, shape }) => tensorType(dtype, shape),
    evaluate: (_, { dtype, shape, value }) => {
      const size = sizeOf(shape);
      return tensorOf(dtype, shape, new Array<number>(size).fill(value));
    },
  }),
  iota: defineOp({
    arity: 0,
    kind: "source",
    attrs: { dtype: "dtype", shape: "ints", axis: "int" },
    doc: "The index along `axis`.",
    infer: (_, { dtype, shape, axis }) => {
      const type = tensorType(dtype, shape);
      checkAxis("iota", axis, type);
      return type;
    },
    evaluate: (_, { dtype, shape, axis }, type) => {
      const out = zeros(dtype, shape);
      const write = writer(out);
      const stride = stridesOf(shape)[axis]!;
      for (let i = 0; i < sizeOf(type.shape); i++) write(i, roundTo(dtype, Math.floor(i / stride) % shape[axis]!));
      return out;
    },
  }),
  call: defineOp({
    arity: "variadic",
    kind: "opaque",
    attrs: { func: "string", result: "int", layer: "int?", dtype: "dtype", shape: "ints" },
    doc: "Result number `result` of function `func` applied to the operands, with `{layer}` in its weights' names bound to `layer`. Calls that differ in `result` alone are one call.",
    infer: (_, { dtype, shape }) => tensorType(dtype, shape),
  }),
} as const;
