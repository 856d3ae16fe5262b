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

/**
 * In what order a group of a block has its codes: `chunks` of four of each row, side by side in a vector of 16 bytes, for
 * processors whose lanes are rows; or `rows`, in vectors of one row each, for GPUs whose invocations are.
 */
export type DotOrder = "chunks" | "rows";

/** The last axes of packed weights tell the order. */
export function dotOrder(packed: Shape): DotOrder {
  return packed.at(-1) === 4 ? "chunks" : "rows";
}

/** Vectors of 16 bytes to a group of a block. */
export function dotChunks(bits: number): number {
  return bits === pairBits ? 5 : 8;
}

/** The code of row q and element k of a group of pairs: `byte` reads one of its 80. */
function pairCode(byte: (i: number) => number, q: number, k: number): number {
  const [step, half] = [k >> 3, (k >> 2) & 1];
  const code = (second: number) => {
    const lane = 4 * q + 2 * half + second;
    const place = (byte(64 + lane) >> (2 * step)) & 3;
    return place === (k & 3) ? byte(16 * step + lane) - 128 : 0;
  };
  return code(0) + code(1);
}

type DenseCode = (byte: (i: number) => number, q: number, k: number) => number;

/** The code of row q and element k of a group: `byte` reads one of its 128. */
function denseCodeOf(order: DotOrder, bits: number): DenseCode {
  const half = (byte: number, high: boolean) => (high ? byte >> 4 : byte & 15);
  if (order === "chunks") {
    const at = (q: number, k: number) => (k >> 2) * 16 + (q & 3) * 4 + (k & 3);
    return bits === 4 ? (byte, q, k) => half(byte(at(q, k)), q >= 4) : (byte, q, k) => byte(at(q, k));
  }
  if (bits === 4) return (byte, q, k) => half(byte(q * 16 + (k & 15)), k >= 16);
  return (byte, q, k) => byte(((k >> 4) * 4 + q) * 16 + (k & 15));
}

export const dotOps = {
  dotGroups: defineOp({
    arity: "variadic",
    kind: "dot",
    attrs: { bits: "int", zero: "int" },
    doc: "A contraction of codes over groups of 32: `out[l.., o] = sum over g of xScale[l.., g] * wScale[o, g] * (sum over k of x[l.., 32g + k] * w[o, 32g + k] - zero * xSum[l.., g])`, zero being one of the codes. x i8[l.., i], xScale and xSum float[l.., i/32], w u8[m.., o/r, i/32, 8, 4, 4], wScale float[m.., o/r, i/32, r], r being 8 for 4 bits and else 4, all scales finite; xSum must be the sums of x over each group, which a device may take from x instead. With a sixth operand wMin, like wScale, `xScale[l.., g] * xSum[l.., g] * wMin[o, g]` is added for each group: minimums of affine codes. In w, byte [b, g, c, q, t] is, for 8 bits, the code of row 4b + q at k = 4c + t; for 4 bits its low half is that of row 8b + q and its high half that of row 8b + 4 + q. For 5 bits two signed codes of 8 bits stay of each four of a row, the others are 0, and zero is 0: w is u8[m.., o/4, i/32, 5, 4, 4], where byte [b, g, c, q, 2h + s], c below 4, less 128 is the first (s = 0) or second code of row 4b + q that stays of the four from k = 8c + 4h on, and of byte [b, g, 4, q, 2h + s] bits 2c and 2c + 1 say which of the four it is (two in one place add up). For 8 and 4 bits w may also be u8[m.., o/r, i/32, 8/r, r, 16]: byte [b, g, h, q, t] is, for 8 bits, the code of row 4b + q at k = 16h + t; for 4 bits its low half is that of row 8b + q at k = t, its high half that at k = 16 + t. One of l and m begins with the other. The interpreter adds in double and rounds once; a device may add the groups in f32 in any order.",
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
      const code = denseCodeOf(dotOrder(ins[3]!.type.shape), bits);
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
            let sum = -zero * xSum!(lx * groups + g);
            for (let k = 0; k < dotGroup; k++) {
              const own = x!((lx * groups + g) * dotGroup + k);
              if (bits === pairBits) sum += own * pairCode((i) => w!(at * 80 + i), o & 3, k);
              else sum += own * code((i) => w!(at * 128 + i), o % block, k);
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
  const [blocks, groups, ...vectors] = w!.shape.slice(-5);
  const block = dotBlock(bits);
  const orders = [[dotChunks(bits), 4, 4], ...(bits === pairBits ? [] : [[8 / block, block, 16]])];
  const perGroup = [...xLead, groups!];
  const [short, long] = xLead.length < wLead.length ? [xLead, wLead] : [wLead, xLead];
  const fits =
    (bits === 8 || bits === 4 || bits === pairBits) &&
    w!.shape.length >= 5 &&
    x!.dtype === "i8" &&
    w!.dtype === "u8" &&
    orders.some((order) => sameShape(order, vectors)) &&
    x!.shape.at(-1) === groups! * dotGroup &&
    [xScale!, xSum!].every((each) => isFloat(each.dtype) && sameShape(each.shape, perGroup)) &&
    scales.every((each) => isFloat(each.dtype) && sameShape(each.shape, [...wLead, blocks!, groups!, block])) &&
    short.every((dim, i) => dim === long[i]);
  return fits ? { lead: long, rows: blocks! * block, groups: groups! } : undefined;
}
