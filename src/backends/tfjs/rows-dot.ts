/** The row of `dotGroups`: products of packed codes as one batched matrix product per group, in f32 throughout. */
import { UnsupportedError } from "../../ir/errors.ts";
import { type DotOrder, dotBlock, dotGroup, dotOrder, dotShapes, pairBits } from "../../ir/ops/dot.ts";
import { sizeOf } from "../../ir/types.ts";
import { asFloat, floatMath } from "./build.ts";
import type { TensorEngine } from "./engine.ts";
import { type Row, whole } from "./row.ts";

export const dotRow: Row<"dotGroups"> = whole((engine, xs, { ins, attrs: { bits, zero }, type }) => {
  if (bits === pairBits) throw new UnsupportedError("dotGroups", "pairs of codes on engines of tensors");
  const { add, mul, sub } = floatMath(engine);
  const types = ins.map((x) => x.type);
  const { lead, rows, groups } = dotShapes(types, bits)!; // checked by the type rule
  // Flat, as few engines compute on seven axes.
  const floats = xs.map((x, i) => asFloat(engine, engine.reshape(x, [sizeOf(types[i]!.shape)]), types[i]!.dtype));
  const count = sizeOf(lead);
  const [xRows, wRows] = [sizeOf(types[0]!.shape.slice(0, -1)), sizeOf(types[3]!.shape.slice(0, -5))];
  const block = dotBlock(bits);
  /** [wRows, rows / block, groups, block, size] -> [count, groups * rows * size] */
  const perRow = (x: (typeof xs)[number], size: number) => {
    const turned = engine.transpose(engine.reshape(x, [wRows, rows / block, groups, block, size]), [0, 2, 1, 3, 4]);
    return serve(engine, turned, wRows, count, groups * rows * size);
  };
  const perGroup = (x: (typeof xs)[number]) =>
    engine.reshape(serve(engine, x, xRows, count, groups), [count, groups, 1]);
  const [x, xScale, xSum, w, wScale, wMin] = [0, 1, 2, 3, 4, 5].map((i) => floats[i]);
  // Sums of 32 products of bytes are below 2^24, so exact in f32.
  const products = engine.matMul(
    engine.reshape(serve(engine, x!, xRows, count, groups * dotGroup), [count * groups, 1, dotGroup]),
    engine.reshape(
      perRow(unpack(engine, w!, bits, wRows * (rows / block) * groups, dotOrder(types[3]!.shape)), dotGroup),
      [count * groups, rows, dotGroup],
    ),
    { transposeA: false, transposeB: true },
  );
  const sums = engine.reshape(products, [count, groups, rows]);
  const [scale, sum] = [perGroup(xScale!), perGroup(xSum!)];
  const byRow = (value: (typeof xs)[number]) => engine.reshape(perRow(value, 1), [count, groups, rows]);
  const scaled = mul(mul(sub(sums, mul(sum, zero)), scale), byRow(wScale!));
  const all = wMin === undefined ? scaled : add(scaled, mul(mul(scale, sum), byRow(wMin)));
  return engine.reshape(engine.reduceSum(engine.transpose(all, [0, 2, 1])), type.shape);
});

/** [from, size] -> [count, size]: the shorter lead is a prefix, its row serves a run of the longer's. */
function serve<T>(engine: TensorEngine<T>, x: T, from: number, count: number, size: number): T {
  if (from === count) return engine.reshape(x, [count, size]);
  const repeated = engine.broadcastTo(engine.reshape(x, [from, 1, size]), [from, count / from, size]);
  return engine.reshape(repeated, [count, size]);
}

/** The 128 bytes of each of n groups of a block as codes [n, block, 32]; see `dotGroups` for their orders. */
function unpack<T>(engine: TensorEngine<T>, bytes: T, bits: number, n: number, order: DotOrder): T {
  const { floor, mul, sub } = floatMath(engine);
  const [block, chunks] = [dotBlock(bits), order === "chunks"];
  const shape = chunks ? [n, 8, 4, 4] : [n, 8 / block, block, 16];
  const byRow = engine.transpose(engine.reshape(bytes, shape), [0, 2, 1, 3]);
  if (bits === 8) return engine.reshape(byRow, [n, 4, dotGroup]);
  const high = floor(mul(byRow, 1 / 16));
  // The halves of a byte are of two rows, or of one.
  const size = chunks ? [n, 4, dotGroup] : [n, 8, 16];
  const halves = [sub(byRow, mul(high, 16)), high].map((half) => engine.reshape(half, size));
  return engine.concat(halves, chunks ? 1 : 2);
}
