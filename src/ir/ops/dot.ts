/** Products of codes, as processors with byte instructions compute them: rows interleaved by four or eight, integers per group. */
import { defineOp, typeError } from "../op.ts";
import { reader, writer, zeros } from "../tensor.ts";
import { isFloat, type Shape, sameShape, sizeOf, type TensorType, tensorType } from "../types.ts";

/** Codes that share a scale; the layout of the packed weights is made for it. */
export const dotGroup = 32;

/** Bits of a weight where two codes of 8 bits stay of each four, with two bits each for where they are. */
export const pairBits = 5;

/** Rows that are packed together: four, or with two codes in a byte twice four. */
export function dotBlock(bits: number): number {
  return bits === 4 ? 8 : 4;
}

/** Vectors of 16 bytes to a group of a block. */
export function dotChunks(bits: number): number {
  return bits === pairBits ? 5 : 8;
}

/** Where the value of row `q` of a block and element `k` of a group is if it stays: its place's byte, and of that the shift. */
export function pairPlace(q: number, k: number): { readonly byte: number; readonly shift: number } {
  return { byte: 64 + 2 * (k >> 2) + (q >> 1), shift: 4 * (q & 1) };
}

/** The code of row q and element k of a group: `byte` reads one of its 80. */
function pairCode(byte: (i: number) => number, q: number, k: number): number {
  const place = pairPlace(q, k);
  const places = byte(place.byte) >> place.shift;
  const value = (second: number) => (byte(8 * (k >> 2) + 2 * q + second) << 24) >> 24;
  if ((k & 3) === (places & 3)) return value(0);
  return (k & 3) === ((places >> 2) & 3) ? value(1) : 0;
}

export const dotOps = {
  dotGroups: defineOp({
    arity: "variadic",
    kind: "dot",
    attrs: { bits: "int", zero: "int" },
    doc: "A contraction of codes over groups of 32: `out[l.., o] = sum over g of xScale[l.., g] * wScale[o, g] * (sum over k of x[l.., 32g + k] * w[o, 32g + k] - zero * xSum[l.., g])`, zero being one of the codes. x i8[l.., i], xScale and xSum float[l.., i/32], w u8[m.., o/r, i/32, 8, 4, 4], wScale float[m.., o/r, i/32, r], r being 8 for 4 bits and else 4, all scales finite; xSum must be the sums of x over each group, which a device may take from x instead. With a sixth operand wMin, like wScale, `xScale[l.., g] * xSum[l.., g] * wMin[o, g]` is added for each group: minimums of affine codes. In w, byte [b, g, c, q, t] is, for 8 bits, the code of row 4b + q at k = 4c + t; for 4 bits its low half is that of row 8b + q and its high half that of row 8b + 4 + q. For 5 bits two signed codes of 8 bits stay of each four of a row, the others are 0, and zero is 0: w is u8[m.., o/4, i/32, 5, 4, 4], of whose 80 bytes for a group of a block byte 8c + 2q + s is the first (s = 0) or the second code of row 4b + q among k = 4c .. 4c + 3, and byte 64 + 2c + h has their places for rows 4b + 2h (low half) and 4b + 2h + 1 (high half): two bits for the first, two for the second above them; where both are the same the first counts. One of l and m begins with the other. The interpreter adds in double and rounds once; a device may add the groups in f32 in any order.",
    infer: (ins, { bits, zero }) => {
      const shapes = dotShapes(ins, bits);
      if (shapes === undefined)
        throw typeError("dotGroups", "x, xScale, xSum, w, wScale and perhaps wMin as packed", ins);
      if (zero < 0 || zero >= (bits === pairBits ? 1 : 2 ** bits))
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
              const own = x!((lx * groups + g) * dotGroup + k);
              if (bits === pairBits) sum += own * pairCode((i) => w!(at * 80 + i), o & 3, k);
              else {
                const byte = w!((at * 8 + (k >> 2)) * 16 + (o & 3) * 4 + (k & 3));
                sum += own * (bits === 4 ? (byte >> shift) & 15 : byte);
              }
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
    (bits === 8 || bits === 4 || bits === pairBits) &&
    w!.shape.length >= 5 &&
    x!.dtype === "i8" &&
    w!.dtype === "u8" &&
    chunks === dotChunks(bits) &&
    four === 4 &&
    four2 === 4 &&
    x!.shape.at(-1) === groups! * dotGroup &&
    [xScale!, xSum!].every((each) => isFloat(each.dtype) && sameShape(each.shape, perGroup)) &&
    scales.every((each) => isFloat(each.dtype) && sameShape(each.shape, [...wLead, blocks!, groups!, block])) &&
    short.every((dim, i) => dim === long[i]);
  return fits ? { lead: long, rows: blocks! * block, groups: groups! } : undefined;
}
