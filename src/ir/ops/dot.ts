/** Products of codes, as processors with byte instructions compute them: rows interleaved by four or eight, integers per group. */
import { defineOp, typeError } from "../op.ts";
import { reader, writer, zeros } from "../tensor.ts";
import { isFloat, type Shape, sameShape, sizeOf, type TensorType, tensorType } from "../types.ts";

/** Codes that share a scale; the layout of the packed weights is made for it. */
export const dotGroup = 32;

/** Rows that are packed together: four, or with two codes in a byte twice four. */
export function dotBlock(bits: number): number {
  return 32 / bits;
}

export const dotOps = {
  dotGroups: defineOp({
    arity: "variadic",
    kind: "dot",
    attrs: { bits: "int", zero: "int" },
    doc: "A contraction of codes over groups of 32: `out[l.., o] = sum over g of xScale[l.., g] * wScale[o, g] * (sum over k of x[l.., 32g + k] * w[o, 32g + k] - zero * xSum[l.., g])`, zero being one of the codes. x i8[l.., i], xScale and xSum float[l.., i/32], w u8[m.., o/r, i/32, 8, 4, 4], wScale float[m.., o/r, i/32, r], r being 32/bits, all scales finite; xSum must be the sums of x over each group, which a device may take from x instead. With a sixth operand wMin, like wScale, `xScale[l.., g] * xSum[l.., g] * wMin[o, g]` is added for each group: minimums of affine codes. In w, byte [b, g, c, q, t] is, for 8 bits, the code of row 4b + q at k = 4c + t; for 4 bits its low half is that of row 8b + q and its high half that of row 8b + 4 + q. One of l and m begins with the other. The interpreter adds in double and rounds once; a device may add the groups in f32 in any order.",
    infer: (ins, { bits, zero }) => {
      const shapes = dotShapes(ins, bits);
      if (shapes === undefined)
        throw typeError("dotGroups", "x, xScale, xSum, w, wScale and perhaps wMin as packed", ins);
      if (zero < 0 || zero >= 2 ** bits)
        throw typeError("dotGroups", `a zero point that is a code of ${bits} bits`, ins);
      return tensorType("f32", [...shapes.lead, shapes.rows]);
    },
    evaluate: (ins, { bits, zero }, type) => {
      const { lead, rows, groups } = dotShapes(
        ins.map((x) => x.type),
        bits,
      )!; // inferred
      const [x, xScale, xSum, w, wScale, wMin] = ins.map(reader);
      const [xRows, wRows] = [sizeOf(ins[0]!.type.shape.slice(0, -1)), sizeOf(ins[3]!.type.shape.slice(0, -5))];
      const block = dotBlock(bits);
      const out = zeros("f32", type.shape);
      const write = writer(out);
      const count = sizeOf(lead);
      for (let l = 0; l < count; l++) {
        // The shorter lead is a prefix: its row serves a run of the longer's.
        const [lx, lw] = [Math.floor((l * xRows) / count), Math.floor((l * wRows) / count)];
        for (let o = 0; o < rows; o++) {
          let total = 0;
          for (let g = 0; g < groups; g++) {
            const at = ((lw * rows) / block + Math.floor(o / block)) * groups + g;
            const shift = o % block < 4 ? 0 : 4;
            let sum = -zero * xSum!(lx * groups + g);
            for (let k = 0; k < dotGroup; k++) {
              const byte = w!((at * 8 + (k >> 2)) * 16 + (o & 3) * 4 + (k & 3));
              sum += x!((lx * groups + g) * dotGroup + k) * (bits === 4 ? (byte >> shift) & 15 : byte);
            }
            const scaleAt = at * block + (o % block);
            total += sum * xScale!(lx * groups + g) * wScale!(scaleAt);
            if (wMin !== undefined) total += xScale!(lx * groups + g) * xSum!(lx * groups + g) * wMin(scaleAt);
          }
          write(l * rows + o, total);
        }
      }
      return out;
    },
  }),
} as const;

/** The sizes of a dot's operands; undefined where they do not fit. */
export function dotShapes(
  ins: readonly TensorType[],
  bits: number,
): { lead: Shape; rows: number; groups: number } | undefined {
  if (ins.length !== 5 && ins.length !== 6) return undefined;
  const [x, xScale, xSum, w, ...scales] = ins;
  const [xLead, wLead] = [x!.shape.slice(0, -1), w!.shape.slice(0, -5)];
  const [blocks, groups, chunks, four, four2] = w!.shape.slice(-5);
  const block = dotBlock(bits);
  const perGroup = [...xLead, groups!];
  const [short, long] = xLead.length < wLead.length ? [xLead, wLead] : [wLead, xLead];
  const fits =
    (bits === 8 || bits === 4) &&
    w!.shape.length >= 5 &&
    x!.dtype === "i8" &&
    w!.dtype === "u8" &&
    chunks === 8 &&
    four === 4 &&
    four2 === 4 &&
    x!.shape.at(-1) === groups! * dotGroup &&
    [xScale!, xSum!].every((each) => isFloat(each.dtype) && sameShape(each.shape, perGroup)) &&
    scales.every((each) => isFloat(each.dtype) && sameShape(each.shape, [...wLead, blocks!, groups!, block])) &&
    short.every((dim, i) => dim === long[i]);
  return fits ? { lead: long, rows: blocks! * block, groups: groups! } : undefined;
}
