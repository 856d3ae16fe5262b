/**
 * Causal attention, whole or in parts. A part has blocks of keys, dealt out in turn, and knows the largest score and the sums
 * that it came to; `mergeParts` puts them together as a streaming softmax does.
 */
import { defineOp, typeError } from "../op.ts";
import { reader, type Tensor, writer, zeros } from "../tensor.ts";
import { sameShape, type TensorType, tensorType } from "../types.ts";

/** Largest score of no keys: below every score, and not an infinity, which devices may take as absent. */
export const lowestScore = -3.4028234663852886e38;

/** The result's shape [n, h, e], where the operands fit. */
function headsOf(op: string, ins: readonly TensorType[]): [number, number, number] {
  const [q, k, v, positions, sequence] = ins;
  const [[n, h, d], [b, s, g, dk]] = [q!.shape, k!.shape];
  const fits =
    [q, k, v].every((type) => type!.dtype === "f32") &&
    [positions, sequence].every((type) => type!.dtype === "i32" && sameShape(type!.shape, [n!])) &&
    [q!.shape.length, k!.shape.length, v!.shape.length].join() === "3,4,4" &&
    d === dk &&
    h! % g! === 0 &&
    b! > 0 &&
    sameShape(v!.shape.slice(0, 3), [b!, s!, g!]);
  if (!fits) throw typeError(op, "q[n,h,d], k[b,s,g,d], v[b,s,g,e], positions i32[n], sequence i32[n]", ins);
  return [n!, h!, v!.shape[3]!];
}

/** Some keys of a token and head: the largest score, and the sums of weights and of weights times values. */
interface Sums {
  readonly most: number;
  readonly total: number;
  readonly values: readonly number[];
}

/** Calls `visit` for each token and head; `sumsOf` of the keys that it is given the numbers of. */
function eachHead(
  [q, k, v, positions, sequence]: readonly Tensor[],
  scale: number,
  visit: (row: number, visible: readonly number[], sumsOf: (keys: readonly number[]) => Sums) => void,
): void {
  const [readQ, readK, readV] = [reader(q!), reader(k!), reader(v!)];
  const [n, h] = q!.type.shape as [number, number, number]; // of rank 3
  const [b, s, g, d] = k!.type.shape as [number, number, number, number]; // of rank 4
  const e = v!.type.shape[3]!;
  for (let i = 0; i < n; i++) {
    const seen = Math.min(reader(positions!)(i) + 1, s);
    const row = Math.min(Math.max(reader(sequence!)(i), 0), b - 1);
    for (let head = 0; head < h; head++) {
      const keyAt = (t: number) => (row * s + t) * g + Math.floor((head * g) / h);
      const sumsOf = (keys: readonly number[]): Sums => {
        const scores = keys.map((t) => {
          let sum = 0;
          for (let j = 0; j < d; j++) sum += readQ((i * h + head) * d + j) * readK(keyAt(t) * d + j);
          return sum * scale;
        });
        const most = scores.reduce((a, x) => Math.max(a, x), lowestScore);
        const weights = scores.map((x) => Math.exp(x - most));
        const values = Array.from({ length: e }, (_, j) =>
          weights.reduce((sum, weight, at) => sum + weight * readV(keyAt(keys[at]!) * e + j), 0),
        );
        return { most, total: weights.reduce((a, x) => a + x, 0), values };
      };
      visit(
        i * h + head,
        Array.from({ length: Math.max(seen, 0) }, (_, t) => t),
        sumsOf,
      );
    }
  }
}

const meaning =
  "q[n, h, d], k[b, s, g, d], v[b, s, g, e], positions i32[n], sequence i32[n]; query head j uses key head floor(j g / h).";

export const attentionOps = {
  attention: defineOp({
    arity: 5,
    kind: "composite",
    attrs: { scale: "number" },
    doc: `Causal attention of a ragged batch: token i, of sequence \`sequence[i]\` at \`positions[i]\`, attends to keys 0 .. positions[i] of that sequence. ${meaning} Gives [n, h, e]. A token at position -1 attends to nothing and gives 0.`,
    axes: () => ({
      // Each of g key heads serves r query heads that follow each other.
      ins: [["n", "g r", "d"], ["b", "s", "g", "d"], ["b", "s", "g", "e"], ["n"], ["n"]],
      out: ["n", "g r", "e"],
      whole: ["s", "d"],
      indexed: { axis: "b", by: 4, access: "read" },
    }),
    infer: (ins) => tensorType("f32", headsOf("attention", ins)),
    evaluate: (ins, { scale }, type) => {
      const out = zeros("f32", type.shape);
      const write = writer(out);
      eachHead(ins, scale, (row, visible, sumsOf) => {
        const { total, values } = sumsOf(visible);
        for (const [j, sum] of values.entries()) write(row * values.length + j, total === 0 ? 0 : sum / total);
      });
      return out;
    },
  }),
  attentionParts: defineOp({
    arity: 5,
    kind: "composite",
    attrs: { scale: "number", parts: "int", block: "int" },
    doc: "Attention before its parts are put together: of key t part floor(t / block) % parts. Operands of `attention`; gives f32[n, h, parts, e + 2]: the sums of exp(score - largest) times values, the largest score (the lowest f32 where there is none), and the sum of exp(score - largest).",
    infer: (ins, { parts, block }) => {
      const [n, h, e] = headsOf("attentionParts", ins);
      if (parts < 1 || block < 1) throw typeError("attentionParts", "at least one part, of blocks of keys", ins);
      return tensorType("f32", [n, h, parts, e + 2]);
    },
    evaluate: (ins, { scale, parts, block }, type) => {
      const out = zeros("f32", type.shape);
      const write = writer(out);
      eachHead(ins, scale, (row, visible, sumsOf) => {
        for (let part = 0; part < parts; part++) {
          const { most, total, values } = sumsOf(visible.filter((t) => Math.floor(t / block) % parts === part));
          const at = (row * parts + part) * type.shape[3]!;
          for (const [j, x] of [...values, most, total].entries()) write(at + j, x);
        }
      });
      return out;
    },
  }),
  mergeParts: defineOp({
    arity: 1,
    kind: "composite",
    attrs: {},
    doc: "The result of attention [n, h, e] from its parts [n, h, parts, e + 2]: sums are scaled to the largest score of all, added, and divided by the sum of weights, or by 1 where that is less, as where no part has a key.",
    infer: (ins) => {
      const [n, h, parts, width] = ins[0]!.shape;
      if (ins[0]!.dtype !== "f32" || ins[0]!.shape.length !== 4 || parts! < 1 || width! < 2)
        throw typeError("mergeParts", "f32[n, h, parts, e + 2]", ins);
      return tensorType("f32", [n!, h!, width! - 2]);
    },
    evaluate: ([x], _, type) => {
      const out = zeros("f32", type.shape);
      const [read, write] = [reader(x!), writer(out)];
      const [rows, parts, e] = [type.shape[0]! * type.shape[1]!, x!.type.shape[2]!, type.shape[2]!];
      const at = (row: number, part: number, j: number) => read((row * parts + part) * (e + 2) + j);
      for (let row = 0; row < rows; row++) {
        const each = Array.from({ length: parts }, (_, part) => part);
        const most = each.reduce((a, part) => Math.max(a, at(row, part, e)), Number.NEGATIVE_INFINITY);
        const sumOf = (j: number) =>
          each.reduce((sum, part) => sum + Math.exp(at(row, part, e) - most) * at(row, part, j), 0);
        const total = Math.max(sumOf(e + 1), 1);
        for (let j = 0; j < e; j++) write(row * e + j, sumOf(j) / total);
      }
      return out;
    },
  }),
} as const;
