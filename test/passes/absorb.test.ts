/** Absorption: both forms of latent attention agree over random sizes and spellings, and the cheaper one is taken. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { maths } from "../../src/ir/build.ts";
import { Builder, type Module, makeModule, type Node, topoOrder } from "../../src/ir/graph.ts";
import { jsTarget } from "../../src/ir/target.ts";
import { absorb, absorbedCost, type LatentSizes, plainCost } from "../../src/passes/absorb.ts";
import { runPasses } from "../../src/passes/pass.ts";
import { simplify } from "../../src/passes/simplify.ts";
import { nmse } from "../arb/compare.ts";
import { arbInputs, runInterpret } from "../arb/inputs.ts";

interface Spelling {
  readonly ropeFirst: boolean;
  /** Axes of w_uk and w_uv: "h d r" as in the paper, or another order. */
  readonly weightAxes: string;
  /** c and k_p are slices of the rows of a cache, rather than values of their own. */
  readonly cached: boolean;
}

/** Latent attention as models write it: keys and values made for every head. */
function plainAttention({ n, b, s, h, d, p, e, r }: LatentSizes, spelling: Spelling): Module {
  const builder = new Builder();
  const { attention, broadcast, concat, contract, reshape, slice } = maths(builder);
  const params: Node<"param">[] = [];
  const param = (name: string, shape: number[], dtype: "f32" | "i32" = "f32") => {
    const node = builder.param(name, dtype, shape);
    params.push(node);
    return node;
  };
  const cat = (axis: number, nope: Node, rope: Node) =>
    concat(axis, ...(spelling.ropeFirst ? [rope, nope] : [nope, rope]));
  const q = cat(2, param("q_n", [n, h, d]), param("q_p", [n, h, p]));
  const rows = spelling.cached ? param("rows", [b, s, r + p]) : undefined;
  const c = rows === undefined ? param("c", [b, s, r]) : slice(rows, 2, 0, r);
  const kP = rows === undefined ? param("k_p", [b, s, p]) : slice(rows, 2, r, r + p);
  const sizes: Record<string, number> = { h, r };
  const weight = (name: string, width: number) => {
    const axes = spelling.weightAxes.split(" ");
    return builder.weight(
      name,
      "f32",
      axes.map((axis) => sizes[axis] ?? width),
    );
  };
  const up = `b s r, ${spelling.weightAxes} -> b s h d`;
  const keys = contract(up, c, weight("w_uk", d));
  const k = cat(3, keys, broadcast(reshape(kP, [b, s, 1, p]), [b, s, h, p]));
  const v = contract(up, c, weight("w_uv", e));
  const out = attention(q, k, v, param("positions", [n], "i32"), param("sequence", [n], "i32"), 0.5);
  return makeModule("latent", [{ name: "main", params, outs: [out] }], "main");
}

const dim = fc.integer({ min: 1, max: 3 });
const arbSizes: fc.Arbitrary<LatentSizes> = fc.record({
  n: dim,
  b: dim,
  s: dim,
  h: dim,
  d: dim,
  p: dim,
  e: dim,
  r: dim,
});
const arbSpelling: fc.Arbitrary<Spelling> = fc.record({
  ropeFirst: fc.boolean(),
  weightAxes: fc.constantFrom("h d r", "r h d", "h r d"),
  cached: fc.boolean(),
});

const widths = (module: Module) =>
  topoOrder(module.funcs.get("main")!.outs)
    .filter((node) => node.op === "attention")
    .map((node) => node.ins[1]!.type.shape);

const run = (module: Module, form: "cheaper" | "absorbed" | "plain") =>
  runPasses(module, [simplify(), absorb({ form }), simplify()], jsTarget, { verify: 2 });

test("both forms agree", () => {
  const cases = fc.tuple(arbSizes, arbSpelling).chain(([sizes, spelling]) => {
    const module = plainAttention(sizes, spelling);
    return fc.record({
      sizes: fc.constant(sizes),
      module: fc.constant(module),
      data: arbInputs(module, { finite: true }),
    });
  });
  fc.assert(
    fc.property(cases, ({ sizes: { b, s, r, p }, module, data }) => {
      const absorbed = run(module, "absorbed");
      expect(widths(absorbed)).toEqual([[b, s, 1, r + p]]);
      const [found, expected] = [absorbed, module].map((each) => runInterpret(each, data)[0]!);
      // Scores reach 3 x 4^3 x 3, rounded to 6e-8 of that twice: weights and results move by at most 1e-4 of themselves,
      // squared 1e-8. A result that cancels may lose as much again.
      expect(nmse(found!, expected!)).toBeLessThan(1e-7);
    }),
    { numRuns: 200 },
  );
});

test("slices of one cache become the cache's rows again", () => {
  const sizes = { n: 1, b: 1, s: 3, h: 2, d: 2, p: 1, e: 2, r: 2 };
  const module = plainAttention(sizes, { ropeFirst: false, weightAxes: "h d r", cached: true });
  const ops = topoOrder(run(module, "absorbed").funcs.get("main")!.outs).map((node) => node.op);
  expect(ops.filter((op) => op === "concat")).toHaveLength(1); // of the two parts of q
  expect(ops.filter((op) => op === "slice")).toHaveLength(1); // c, as values
});

describe("the cheaper form is chosen", () => {
  /** DeepSeek-V3's sizes. */
  const v3 = { h: 128, d: 128, p: 64, e: 128, r: 512 };

  test.each([
    ["decoding one token", { n: 1, b: 1, s: 4096 }, true],
    ["decoding 32 sequences", { n: 32, b: 32, s: 4096 }, true],
    ["prefill of 512 tokens", { n: 512, b: 1, s: 512 }, false],
  ])("%s", (_, batch, absorbs) => {
    const sizes = { ...v3, ...batch };
    expect(absorbedCost(sizes) < plainCost(sizes)).toBe(absorbs);
    const module = plainAttention(sizes, { ropeFirst: false, weightAxes: "h d r", cached: true });
    expect(widths(run(module, "cheaper"))[0]![2]).toBe(absorbs ? 1 : 128);
    expect(widths(run(module, "plain"))[0]![2]).toBe(128);
  });
});
