/** Cases of ops that move, convert, look up and reduce data. */
import { type Tensor, tensorOf, valuesOf } from "../../src/ir/tensor.ts";
import { type DType, dtypes } from "../../src/ir/types.ts";
import { floats, ints } from "../arb/module-of.ts";
import type { CaseSpec, Tolerance } from "./case-spec.ts";

const inf = Number.POSITIVE_INFINITY;
const summed: Tolerance = { ulp: 16, absolute: 1e-6, reason: "sums of fewer than 16 terms in f32 in any order" };
const accurate: Tolerance = { ulp: 64, reason: "the accuracy of exp and tanh in the table of scalar ops" };
const allDTypes = Object.keys(dtypes) as DType[]; // the keys of the table

/** Ties to even, values beyond the range, subnormals, zeros and NaN. */
const converted = [
  0,
  -0,
  1,
  -1,
  2.5,
  -2.5,
  0.3,
  448,
  500,
  65_504,
  65_520,
  1e-7,
  2 ** -9,
  -3e38,
  127.6,
  -129,
  300,
  inf,
  -inf,
  NaN,
];

/** On a single device a collective is its operand. */
const collectives: CaseSpec[] = [
  { op: "shard" as const, attrs: { axis: 1 } },
  { op: "allGather" as const, attrs: { axis: 0 } },
  { op: "allReduce" as const, attrs: { by: "sum" } },
  { op: "reduceScatter" as const, attrs: { by: "max", axis: 1 } },
  { op: "allToAll" as const, attrs: { split: 0, concat: 1 } },
].map(({ op, attrs }) => ({
  name: `${op} of one device`,
  op,
  // Each op has its own attributes; the Builder checks them.
  build: (m, p) => m.neg(m.builder.make(op, [m.neg(p("x", "f32", 2, 3))], { over: "", parts: 1, ...attrs } as never)),
}));

const casts: CaseSpec[] = allDTypes
  .filter((dtype) => dtype !== "f32")
  .flatMap((dtype) => [
    {
      name: `cast f32 to ${dtype}`,
      op: "cast" as const,
      build: (m, p) => m.cast(p("x", "f32", converted.length), dtype),
      // Only powers of two can be stored in f8e8m0.
      inputs: [
        tensorOf("f32", [converted.length], dtype === "f8e8m0" ? converted.map((_, i) => 2 ** (i - 8)) : converted),
      ],
    },
    {
      name: `cast ${dtype} to f32`,
      op: "cast" as const,
      build: (m, p) => m.cast(p("x", dtype, 15), "f32"),
      inputs: [
        tensorOf(
          dtype,
          [15],
          Array.from({ length: 15 }, (_, i) => (dtype === "f8e8m0" ? 2 ** (i - 7) : i - 7)),
        ),
      ],
    },
  ]);

const rowsOf = (x: Tensor, name: string): CaseSpec[] => {
  const [n, d] = x.type.shape as [number, number]; // two axes
  const of = (op: CaseSpec["op"], build: CaseSpec["build"], tolerance?: Tolerance): CaseSpec => ({
    name: `${op} of ${name}`,
    op,
    build,
    inputs: [x],
    ...(tolerance === undefined ? {} : { tolerance }),
  });
  return [
    of("reduceMax", (m, p) => m.reduceMax(p("x", "f32", n, d))),
    of("argMax", (m, p) => m.argMax(p("x", "f32", n, d))),
    // From one to all.
    of("topKIndices", (m, p) => Array.from({ length: d }, (_, i) => m.topKIndices(p("x", "f32", n, d), i + 1))),
    of("topKValues", (m, p) => Array.from({ length: d }, (_, i) => m.topKValues(p("x", "f32", n, d), i + 1))),
    ...(valuesOf(x).every(Number.isFinite)
      ? [of("reduceSum", (m, p) => m.reduceSum(p("x", "f32", n, d)), summed)]
      : []),
  ];
};

const unusual = [NaN, Infinity, -Infinity, -0, 0, 1e-40, 3e38, -3e38];
const usual = [0.5, -0.5, 1.5, -2.5, 126.5, -127.5, 63.25, 1e4];

export const dataCases: readonly CaseSpec[] = [
  ...casts,
  ...collectives,
  ...rowsOf(floats([3, 4], 1, 3, 3, -2, 5, 5, 5, 5, -1, -2, 0, -0), "ties"),
  ...rowsOf(floats([3, 4], -inf, NaN, -inf, 2, NaN, NaN, NaN, NaN, inf, -inf, inf, 0), "NaN and infinities"),
  ...rowsOf(floats([2, 1], -3, 7), "rows of one"),
  { name: "reduceSum of a vector", op: "reduceSum", build: (m, p) => m.reduceSum(p("x", "f32", 7)), tolerance: summed },
  {
    name: "full",
    op: "full",
    build: (m) => [m.full("f32", [2, 3], -0), m.full("i32", [], -7), m.full("bool", [3], 1)],
  },
  { name: "iota", op: "iota", build: (m) => [m.iota("i32", [2, 3, 4], 1), m.iota("f32", [3], 0)] },
  { name: "weight", op: "weight", build: (m) => m.builder.weight("w", "bf16", [3, 5]) },
  {
    name: "weight, stacked and converted",
    op: "weight",
    build: (m, p) => m.add(p("x", "f32", 2, 3), m.cast(m.builder.weight("w", "f16", [2, 3]), "f32")),
  },
  {
    name: "reshape",
    op: "reshape",
    build: (m, p) => m.reshape(m.exp(p("x", "f32", 4, 6)), [3, 2, 4]),
    tolerance: accurate,
  },
  { name: "reshape to a scalar", op: "reshape", build: (m, p) => m.reshape(p("x", "i8", 1, 1), []) },
  { name: "transpose", op: "transpose", build: (m, p) => m.transpose(p("x", "bf16", 2, 3, 4), [2, 0, 1]) },
  { name: "slice", op: "slice", build: (m, p) => m.slice(m.slice(p("x", "u8", 5, 6), 0, 4, 5), 1, 2, 5) },
  {
    name: "slice of packed elements",
    op: "slice",
    build: (m, p) => m.cast(m.slice(p("x", "i4", 3, 5), 1, 1, 4), "f32"),
  },
  { name: "broadcast", op: "broadcast", build: (m, p) => m.broadcast(p("x", "f32", 3, 1), [2, 3, 4]) },
  {
    name: "concat",
    op: "concat",
    build: (m, p) => m.concat(1, p("a", "f32", 2, 1), p("b", "f32", 2, 4), p("c", "f32", 2, 2)),
  },
  {
    name: "concat inside arithmetic",
    op: "concat",
    build: (m, p) => m.mul(m.concat(0, p("a", "f32", 1, 3), m.exp(p("b", "f32", 2, 3))), p("c", "f32", 3, 3)),
    tolerance: accurate,
  },
  {
    name: "concat of concats",
    op: "concat",
    build: (m, p) => m.concat(0, m.concat(1, p("a", "i32", 1, 2), p("b", "i32", 1, 1)), p("c", "i32", 2, 3)),
  },
  {
    name: "gather of indices outside",
    op: "gather",
    build: (m, p) => m.gather(p("x", "f16", 4, 3), p("i", "i32", 2, 3)),
    inputs: [
      tensorOf(
        "f16",
        [4, 3],
        Array.from({ length: 12 }, (_, i) => i),
      ),
      ints([2, 3], 0, 3, -1, 4, 2_147_483_647, 1),
    ],
  },
  { name: "gather by a scalar", op: "gather", build: (m, p) => m.gather(p("x", "f32", 4, 3), p("i", "i32")) },
  {
    name: "takeAlong",
    op: "takeAlong",
    build: (m, p) => m.takeAlong(p("x", "f32", 2, 3), p("i", "i32", 2, 4)),
    inputs: [floats([2, 3], 1, 2, 3, 4, 5, 6), ints([2, 4], 2, 0, -5, 9, 1, 1, 2, 0)],
  },
  {
    name: "updateRows, dropped and repeated slots",
    op: "updateRows",
    build: (m, p) => m.updateRows(p("x", "f32", 4, 2), p("rows", "f32", 5, 2), p("slots", "i32", 5)),
    inputs: [
      floats([4, 2], 1, 2, 3, 4, 5, 6, 7, 8),
      floats([5, 2], 10, 11, 20, 21, 30, 31, 40, 41, 50, 51),
      ints([5], 2, -1, 2, 4, 0),
    ],
  },
  {
    name: "updateRows of packed elements",
    op: "updateRows",
    build: (m, p) => m.updateRows(p("x", "u4", 3, 3), p("rows", "u4", 2, 3), p("slots", "i32", 2)),
    inputs: [
      tensorOf("u4", [3, 3], [1, 2, 3, 4, 5, 6, 7, 8, 9]),
      tensorOf("u4", [2, 3], [15, 14, 13, 12, 11, 10]),
      ints([2], 1, 0),
    ],
  },
  {
    name: "dequantizeBlocks, blocks that are cut",
    op: "dequantizeBlocks",
    build: (m, p) => m.dequantizeBlocks(p("x", "f8e4m3", 5, 7), p("scale", "f32", 3, 3), [2, 3]),
  },
  {
    name: "dequantizeBlocks of a stack",
    op: "dequantizeBlocks",
    build: (m, p) => m.dequantizeBlocks(p("x", "bf16", 2, 3, 4), p("scale", "f32", 2, 2, 1), [2, 4]),
  },
  {
    name: "groupScales of i8, the last group cut",
    op: "groupScales",
    build: (m, p) => m.groupScales(p("x", "f32", 2, 5), { group: 4, to: "i8", method: "range" }),
  },
  {
    name: "groupScales of i8 in groups of 16",
    op: "groupScales",
    build: (m, p) => m.groupScales(p("x", "f32", 3, 112), { group: 16, to: "i8", method: "range" }),
  },
  {
    name: "groupScales of i4 by squared error",
    op: "groupScales",
    build: (m, p) => m.groupScales(p("x", "f32", 2, 8), { group: 4, to: "i4", method: "mse" }),
  },
  {
    name: "groupMinimums",
    op: "groupMinimums",
    build: (m, p) => m.groupMinimums(p("x", "f32", 2, 6), { group: 4, to: "u4", method: "range" }),
  },
  {
    name: "quantizeGroups to i8",
    op: "quantizeGroups",
    build: (m, p) => m.quantizeGroups(p("x", "f32", 2, 6), [p("s", "f16", 2, 2)], "i8", 4),
  },
  {
    name: "groupScales of i8, values that are no numbers and zeros",
    op: "groupScales",
    build: (m, p) => m.groupScales(p("x", "f32", 2, 16), { group: 8, to: "i8", method: "range" }),
    inputs: [floats([2, 16], ...unusual, ...Array<number>(8).fill(NaN), ...Array<number>(8).fill(-0), ...usual)],
  },
  {
    name: "quantizeGroups to i8, values and scales that are no numbers and zeros",
    op: "quantizeGroups",
    build: (m, p) => m.quantizeGroups(p("x", "f32", 4, 16), [p("s", "f16", 4, 2)], "i8", 8),
    inputs: [
      floats([4, 16], ...[1, 2, 3, 4].flatMap(() => [...unusual, ...usual])),
      tensorOf("f16", [4, 2], [0, 0, 0.5, 0.5, -0, 1, NaN, Infinity]),
    ],
  },
  {
    name: "quantizeGroups to i8, a launch divided by groups",
    op: "quantizeGroups",
    build: (m, p) => m.quantizeGroups(p("x", "f32", 1, 320), [p("s", "f16", 1, 40)], "i8", 8),
  },
  {
    name: "quantizeGroups to u4",
    op: "quantizeGroups",
    build: (m, p) => m.quantizeGroups(p("x", "f32", 2, 6), [p("s", "f16", 2, 2), p("least", "f16", 2, 2)], "u4", 4),
  },
  {
    name: "dequantizeGroups of i4",
    op: "dequantizeGroups",
    build: (m, p) => m.dequantizeGroups(p("q", "i4", 2, 6), [p("s", "f16", 2, 2)], 4),
  },
  {
    name: "dequantizeGroups of u4",
    op: "dequantizeGroups",
    build: (m, p) => m.dequantizeGroups(p("q", "u4", 2, 6), [p("s", "f16", 2, 2), p("least", "f16", 2, 2)], 4),
  },
  // Rows of five: four lanes and a rest, whose accesses must not share the pointers of the lanes.
  { name: "tanh of rows of five", op: "tanh", build: (m, p) => m.tanh(p("x", "f32", 3, 5)), tolerance: accurate },
  ...([8, 4, "affine 4", "8 by rows", "4 by rows", "affine 4 by rows"] as const).flatMap((format) => {
    const bits = String(format).includes("8") ? 8 : 4;
    const vectors = String(format).includes("rows") ? [bits / 4, 32 / bits, 16] : [8, 4, 4];
    const attrs = { bits, zero: bits === 8 ? 128 : String(format).startsWith("affine") ? 0 : 8 };
    /** With `picks`, the weights' first axis is of experts, of which each token has chosen some. */
    const dot = (
      name: string,
      xLead: readonly number[],
      wLead: readonly number[],
      picks: readonly number[] = [],
    ): CaseSpec => ({
      name: `dotGroups of ${format} bits, ${name}`,
      op: "dotGroups",
      build: (m, p) => {
        const x = p("x", "i8", ...xLead, 64);
        const sums = m.reduceSum(m.reshape(m.cast(x, "f32"), [...xLead, 2, 32]));
        const weights = [
          p("w", "u8", ...wLead, 2, 2, ...vectors),
          p("w_scale", "f16", ...wLead, 2, 2, 32 / bits),
          ...(attrs.zero === 0 ? [p("w_min", "f16", ...wLead, 2, 2, 32 / bits)] : []),
        ];
        const chosen = picks.length === 0 ? undefined : p("picks", "i32", ...picks);
        const read = weights.map((each) => (chosen === undefined ? each : m.gather(each, chosen)));
        return m.builder.make("dotGroups", [x, p("x_scale", "f32", ...xLead, 2), sums, ...read], attrs);
      },
      // Each group's integer sum is below 2^21 and scaled in f32: a few units in the last place of the larger group remain
      // where the two cancel.
      tolerance: {
        ulp: 64,
        absolute: 16,
        finiteOnly: true,
        reason: "groups are added in f32, the interpreter adds in double",
      },
    });
    return [
      dot("one token", [1], []),
      dot("tokens in tiles of four", [8], []),
      dot("tokens in squares", [2, 32], []),
      dot("tokens that no tile divides", [3], []),
      dot("chosen weights for each of two", [2], [2, 3]),
      dot("rows of its own for each", [2, 3], [2, 3]),
      dot("experts that tokens chose", [9], [3], [9, 2]),
    ];
  }),
];
