/** Cases of contractions and of the composite ops of transformers. */

import type { DType } from "../../src/ir/types.ts";
import { contentsOf, floats, funcOf, ints } from "../arb/module-of.ts";
import type { CaseSpec, Tolerance } from "./case-spec.ts";

/** Contents are multiples of 1/4 below 2 and sums are short, so that every partial sum is exact in f32. */
const summed: Tolerance = { ulp: 0, reason: "products and sums of small multiples of 1/4 are exact in f32" };
const composed: Tolerance = {
  ulp: 256,
  absolute: 1e-5,
  reason: "exp and rsqrt within the accuracies of the table of scalar ops, a rounding or two between them",
};

const contract = (axes: string, x: readonly number[], y: readonly number[], dtype: DType = "f32"): CaseSpec => ({
  name: `contract ${axes}, [${x}] and ${dtype}[${y}]`,
  op: "contract",
  build: (m, p) => m.contract(axes, p("x", "f32", ...x), p("y", dtype, ...y)),
  tolerance: summed,
});

export const contractCases: readonly CaseSpec[] = [
  contract("n i, o i -> n o", [4, 8], [8, 8]),
  contract("n i, o i -> n o", [3, 5], [7, 5]),
  contract("n i, o i -> n o", [1, 9], [6, 9], "bf16"),
  contract("n i, o i -> n o", [9, 3], [2, 3], "f16"),
  contract("n i, o i -> n o", [1, 1], [1, 1]),
  contract("n i, i o -> n o", [2, 3], [3, 4]),
  contract("n i, o i -> o n", [2, 3], [5, 3]),
  contract("o i, n i -> n o", [5, 3], [2, 3]),
  contract("i, i ->", [6], [6]),
  contract("i, o i -> o", [6], [4, 6]),
  contract("i j, j i ->", [2, 3], [3, 2]),
  contract("a, b -> a b", [4], [3]),
  contract("a, a -> a", [5], [5]),
  contract("a b, a -> b", [3, 4], [3]),
  contract("a b, c -> a", [3, 4], [2]),
  contract("b n i, b o i -> b n o", [2, 4, 3], [2, 6, 3]),
  contract("n h d, h d r -> n h r", [3, 2, 4], [2, 4, 5]),
  contract("n g r d, n s g d -> n g r s", [2, 2, 2, 3], [2, 5, 2, 3]),
  contract("n e, e o i -> n o", [2, 3], [3, 4, 2]),
  contract("n a b, o a b -> n o", [2, 3, 2], [4, 3, 2]),
  contract("n a b, o b a -> o n", [4, 3, 2], [4, 2, 3]),
  contract("n a b, a -> n b", [2, 3, 4], [3]),
];

const f32 = (...shape: number[]) => ({ dtype: "f32", shape }) as const;

function attention(
  n: number,
  [b, s]: [number, number],
  [h, g]: [number, number],
  position: number[],
  [d, e]: [number, number] = [3, 5],
): CaseSpec {
  return {
    name: `attention of ${n} tokens, ${b} sequences of ${s} keys, ${h} heads on ${g}`,
    op: "attention",
    build: (m, p) => {
      const [q, k, v] = [p("q", "f32", n, h, d), p("k", "f32", b, s, g, d), p("v", "f32", b, s, g, e)];
      return m.attention(q, k, v, p("positions", "i32", n), p("sequence", "i32", n), 0.5);
    },
    inputs: [
      contentsOf(f32(n, h, d), 1),
      contentsOf(f32(b, s, g, d), 2),
      contentsOf(f32(b, s, g, e), 3),
      ints([n], ...position),
      ints([n], ...position.map((_, i) => (i === 0 ? -1 : i % (b + 1)))),
    ],
    tolerance: composed,
  };
}

/** What attention gives where parts of the keys are put together. */
function inParts(
  n: number,
  [b, s]: [number, number],
  [h, g]: [number, number],
  [parts, block]: [number, number],
  [d, e]: [number, number] = [3, 5],
): CaseSpec {
  return {
    name: `attention of ${n} tokens, ${b} sequences of ${s} keys, ${h} heads on ${g}, in ${parts} parts of ${block} in turn`,
    op: "attentionParts",
    build: (m, p) => {
      const [q, k, v] = [p("q", "f32", n, h, d), p("k", "f32", b, s, g, d), p("v", "f32", b, s, g, e)];
      const ins = [q, k, v, p("positions", "i32", n), p("sequence", "i32", n)];
      const found = m.builder.make("attentionParts", ins, { scale: 0.5, parts, block });
      return [found, m.mergeParts(found)];
    },
    inputs: [
      contentsOf(f32(n, h, d), 1),
      contentsOf(f32(b, s, g, d), 2),
      contentsOf(f32(b, s, g, e), 3),
      ints([n], ...Array.from({ length: n }, (_, i) => (i === 0 ? s : (i * 7) % s) - 1)),
      ints([n], ...Array.from({ length: n }, (_, i) => i % b)),
    ],
    tolerance: composed,
  };
}

const callee = funcOf("callee", (m, p) => {
  const x = p("x", "f32", 2, 3);
  return [m.add(x, 1), m.contract("n i, o i -> n o", x, x)];
});
const callCase: CaseSpec = {
  name: "call, a result unused",
  op: "call",
  callees: [callee],
  build: (m, p) => m.builder.call(callee, [p("a", "f32", 2, 3)])[1]!,
  tolerance: summed,
};

export const modelCases: readonly CaseSpec[] = [
  callCase,
  { name: "silu", op: "silu", build: (m, p) => m.silu(p("x", "f32", 3, 4)), tolerance: composed },
  {
    name: "silu of large values",
    op: "silu",
    build: (m, p) => m.silu(p("x", "f32", 4)),
    inputs: [floats([4], 200, -80, 0, -0)],
    tolerance: composed,
  },
  { name: "softmax", op: "softmax", build: (m, p) => m.softmax(p("x", "f32", 2, 3, 4)), tolerance: composed },
  {
    name: "softmax of large and equal values",
    op: "softmax",
    build: (m, p) => m.softmax(p("x", "f32", 3, 2)),
    inputs: [floats([3, 2], 1e30, 1e30, -1e30, 0, 300, 299)],
    tolerance: composed,
  },
  {
    name: "rmsNorm",
    op: "rmsNorm",
    build: (m, p) => m.rmsNorm(p("x", "f32", 3, 5), p("w", "bf16", 5), 1e-6),
    tolerance: composed,
  },
  {
    name: "rmsNorm of zeros",
    op: "rmsNorm",
    build: (m, p) => m.rmsNorm(p("x", "f32", 1, 3), p("w", "f32", 3), 1e-6),
    inputs: [floats([1, 3], 0, -0, 0), floats([3], 1, 2, 3)],
    tolerance: composed,
  },
  ...[false, true].map(
    (interleaved): CaseSpec => ({
      name: `rope${interleaved ? ", interleaved" : ""}`,
      op: "rope",
      build: (m, p) => m.rope(p("x", "f32", 3, 2, 6), p("cos", "f32", 3, 3), p("sin", "f32", 3, 3), interleaved),
      tolerance: composed,
    }),
  ),
  attention(3, [1, 4], [2, 2], [-1, 0, 3]),
  attention(4, [2, 5], [4, 1], [0, 9, 2, 4]),
  attention(2, [3, 3], [6, 2], [2, 1]),
  attention(1, [1, 1], [1, 1], [2_147_483_647]),
  attention(9, [1, 20], [2, 1], [-1, 0, 19, 19, 17, 1, 2, 3, 4], [4, 12]),
  attention(16, [2, 9], [1, 1], [-1, 9, 0, ...Array.from({ length: 13 }, (_, i) => (i % 9) - 1)], [4, 12]),
  attention(33, [1, 70], [3, 3], [-1, ...Array.from({ length: 32 }, (_, i) => 2 * i + 6)], [5, 8]),
  attention(17, [2, 40], [6, 1], [39, 0, ...Array.from({ length: 15 }, (_, i) => 38 - i)], [4, 4]),
  attention(2, [2, 7], [8, 2], [-2_147_483_648, 6]),
  {
    name: "put parts of attention together",
    op: "mergeParts",
    build: (m, p) => [m.mergeParts(p("x", "f32", 2, 3, 4, 7))],
    inputs: [contentsOf(f32(2, 3, 4, 7), 4)],
    tolerance: composed,
  },
  inParts(3, [1, 9], [2, 1], [2, 2]),
  inParts(2, [2, 30], [4, 2], [3, 4], [8, 12]),
  inParts(1, [1, 5], [1, 1], [7, 1], [4, 4]),
  inParts(1, [1, 70], [2, 1], [20, 2], [4, 8]),
];
