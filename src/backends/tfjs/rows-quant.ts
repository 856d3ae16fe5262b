/** Rows of the ops on codes and scales: group and block quantisation. */
import { codeRange } from "../../ir/ops/groups.ts";
import { sizeOf } from "../../ir/types.ts";
import { asFloat, floatMath, spreadLast } from "./build.ts";
import { type Row, whole } from "./row.ts";
import { groupMinimums, groupScales } from "./scales.ts";

export const quantRows = {
  groupScales: whole((engine, [x], { ins, attrs }) =>
    engine.cast(groupScales(engine, asFloat(engine, x!, ins[0]!.type.dtype), ins[0]!.type.shape, attrs), "f32", "f16"),
  ),
  groupMinimums: whole((engine, [x], { ins, attrs }) =>
    engine.cast(
      groupMinimums(engine, asFloat(engine, x!, ins[0]!.type.dtype), ins[0]!.type.shape, attrs),
      "f32",
      "f16",
    ),
  ),
  quantizeGroups: whole((engine, xs, { ins, attrs: { dtype, group }, type }) => {
    const { div, eq, max, min, round, select, sub } = floatMath(engine);
    const [x, ...params] = xs.map((each, i) => asFloat(engine, each, ins[i]!.type.dtype));
    const [scale, minimum] = params.map((each) => spreadLast(engine, each, type.shape, group));
    const shifted = minimum === undefined ? x! : sub(x!, minimum);
    const { low, high } = codeRange(dtype)!; // checked by the type rule
    const zero = eq(scale!, 0);
    const code = min(max(round(div(shifted, select(zero, 1, scale!))), low), high);
    return engine.cast(select(zero, 0, code), "f32", dtype);
  }),
  dequantizeGroups: whole((engine, xs, { ins, attrs: { group }, type: { shape } }) => {
    const { add, mul } = floatMath(engine);
    const [q, ...params] = xs.map((each, i) => asFloat(engine, each, ins[i]!.type.dtype));
    const isCut = shape.at(-1)! % group !== 0;
    const grouped = [...shape.slice(0, -1), Math.ceil(shape.at(-1)! / group)];
    // Whole groups leave the spreading to the arithmetic, which then takes no memory but its result's.
    const spread = (x: typeof q) =>
      isCut ? spreadLast(engine, x!, shape, group) : engine.reshape(x!, [...grouped, 1]);
    const [scale, minimum] = params.map(spread);
    const product = mul(isCut ? q! : engine.reshape(q!, [...grouped, group]), scale!);
    return engine.reshape(minimum === undefined ? product : add(product, minimum), shape);
  }),
  dequantizeBlocks: whole((engine, [x, scale], { ins, attrs: { block }, type }) => {
    const { shape } = type;
    const [rows, columns] = [shape.at(-2)!, shape.at(-1)!];
    const lead = sizeOf(shape.slice(0, -2));
    const down = Math.ceil(rows / block[0]!);
    // Along columns first, then every row of blocks for each of its rows.
    const wide = spreadLast(engine, scale!, [lead, down, columns], block[1]!);
    const stacked = engine.reshape(wide, [lead, down, 1, columns]);
    const tall = engine.broadcastTo(stacked, [lead, down, block[0]!, columns]);
    const repeated = engine.reshape(tall, [lead, down * block[0]!, columns]);
    const cut = engine.slice(repeated, [0, 0, 0], [lead, rows, columns]);
    return floatMath(engine).mul(asFloat(engine, x!, ins[0]!.type.dtype), engine.reshape(cut, shape));
  }),
} as const satisfies {
  readonly groupScales: Row<"groupScales">;
  readonly groupMinimums: Row<"groupMinimums">;
  readonly quantizeGroups: Row<"quantizeGroups">;
  readonly dequantizeGroups: Row<"dequantizeGroups">;
  readonly dequantizeBlocks: Row<"dequantizeBlocks">;
};
