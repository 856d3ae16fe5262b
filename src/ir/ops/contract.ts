/** Contraction: sums of products over shared axes, which covers every matrix product of a transformer. */
import { axisSizes, parseAxes } from "../axes.ts";
import { contractRule } from "../axis-rule.ts";
import { defineOp, typeError } from "../op.ts";
import { reader, writer, zeros } from "../tensor.ts";
import { isFloat, type Shape, sizeOf, stridesOf, tensorType } from "../types.ts";
import { advance } from "./shape.ts";

export const contractOps = {
  contract: defineOp({
    arity: 2,
    kind: "contract",
    attrs: { axes: "string" },
    doc: 'Sum of products by an axis signature such as "n i, o i -> n o": axes missing from the result are summed. Operands of any float dtype, f32 result. The interpreter adds in double and rounds once; a device may add in f32 in any order.',
    axes: (_, { axes }) => contractRule(axes),
    infer: (ins, { axes }) => {
      if (!ins.every((type) => isFloat(type.dtype))) throw typeError("contract", "float operands", ins);
      const sizes = axisSizes(axes, ins);
      return tensorType(
        "f32",
        parseAxes(axes).out.map((axis) => sizes.get(axis)!),
      );
    },
    evaluate: ([a, b], { axes }, type) => {
      const { ins, out: outAxes, reduced } = parseAxes(axes);
      const sizes = axisSizes(axes, [a!.type, b!.type]);
      const along = (list: readonly string[], names: readonly string[], shape: Shape) =>
        list.map((axis) => (names.includes(axis) ? stridesOf(shape)[names.indexOf(axis)]! : 0));
      const [aOut, bOut] = [along(outAxes, ins[0]!, a!.type.shape), along(outAxes, ins[1]!, b!.type.shape)];
      const [aSum, bSum] = [along(reduced, ins[0]!, a!.type.shape), along(reduced, ins[1]!, b!.type.shape)];
      const sumShape = reduced.map((axis) => sizes.get(axis)!);
      const result = zeros(type.dtype, type.shape);
      const [readA, readB, write] = [reader(a!), reader(b!), writer(result)];
      const index = type.shape.map(() => 0);
      for (let i = 0; i < sizeOf(type.shape); i++) {
        let [atA, atB] = [0, 0];
        for (let j = 0; j < index.length; j++) {
          atA += index[j]! * aOut[j]!;
          atB += index[j]! * bOut[j]!;
        }
        let sum = 0;
        const inner = sumShape.map(() => 0);
        for (let r = 0; r < sizeOf(sumShape); r++) {
          let [offsetA, offsetB] = [atA, atB];
          for (let j = 0; j < inner.length; j++) {
            offsetA += inner[j]! * aSum[j]!;
            offsetB += inner[j]! * bSum[j]!;
          }
          sum += readA(offsetA) * readB(offsetB);
          advance(inner, sumShape);
        }
        write(i, sum);
        advance(index, type.shape);
      }
      return result;
    },
  }),
} as const;
