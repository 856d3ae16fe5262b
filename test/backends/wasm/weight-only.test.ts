/** Weights of few bits times inputs in f32: unpacked in lanes, with the interpreter's values. */
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { compileToPlan, openDevice } from "../../../src/compile.ts";
import { maths } from "../../../src/ir/build.ts";
import { Builder, type Module, makeModule, type Node } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { codeRange } from "../../../src/ir/ops/groups.ts";
import { type Tensor, tensorOf } from "../../../src/ir/tensor.ts";

type Maths = ReturnType<typeof maths>;
type Param = (dtype: "f32" | "f16" | "i8" | "i4" | "u4", ...shape: number[]) => Node;

function built(body: (m: Maths, p: Param) => Node): Module {
  const builder = new Builder();
  const params: Node<"param">[] = [];
  const param: Param = (dtype, ...shape) => {
    params.push(builder.param(`p${params.length}`, dtype, shape));
    return params.at(-1)!;
  };
  const out = body(maths(builder), param);
  return makeModule("m", [{ name: "main", params, outs: [out] }], "main");
}

/** Small whole numbers, and powers of two as scales, so that sums in any order are the same. */
function inputsOf(module: Module, seed: number): Tensor[] {
  let state = seed;
  const next = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 16) % below;
  };
  return module.funcs.get("main")!.params.map(({ type: { dtype, shape } }) => {
    const range = codeRange(dtype);
    const value = () => {
      if (dtype === "f16") return 2 ** (next(3) - 1);
      return range === undefined ? next(15) - 7 : range.low + next(range.high - range.low + 1);
    };
    return tensorOf(dtype, shape, Array.from({ length: shape.reduce((a, b) => a * b, 1) }, value));
  });
}

describe.each(["relaxed", "simd"])("%s", (tier) => {
  const device = openDevice("wasm", { tier, threads: 1 });
  afterAll(() => device.close());

  async function check(module: Module, seed: number): Promise<string> {
    const inputs = inputsOf(module, seed);
    const program = device.load(compileToPlan(module, device.target).plan);
    const instance = program.instantiate({
      weight: () => {
        throw new Error("there are no weights");
      },
    });
    for (const [i, { data }] of inputs.entries()) instance.params[i]!.set(data);
    await instance.run();
    expect([...instance.results[0]!]).toEqual([...interpret(module, inputs)[0]!.data]);
    return program.sources.join("\n");
  }

  test.each(["i8", "i4", "u4"] as const)("%s", async (dtype) => {
    const sizes = fc.record({
      tokens: fc.constantFrom(1, 3, 4, 8),
      rows: fc.integer({ min: 1, max: 9 }),
      groups: fc.integer({ min: 1, max: 3 }),
      // A last group that is not whole, of an odd length too.
      more: fc.constantFrom(0, 0, 5, 8),
    });
    const property = fc.asyncProperty(sizes, fc.nat(), async ({ tokens, rows, groups, more }, seed) => {
      const [inner, all] = [groups * 32 + more, groups + (more > 0 ? 1 : 0)];
      const module = built((m, p) => {
        const params = [p("f16", rows, all), ...(dtype === "u4" ? [p("f16", rows, all)] : [])];
        return m.contract(
          "n i, o i -> n o",
          p("f32", tokens, inner),
          m.dequantizeGroups(p(dtype, rows, inner), params, 32),
        );
      });
      const text = await check(module, seed);
      if (dtype !== "i8" && more === 0 && groups > 1) expect(text).toContain("v128.load16_splat");
    });
    await fc.assert(property, { numRuns: 25 });
  });

  test.each(["i4", "u4"] as const)("%s from any element on", async (dtype) => {
    const property = fc.asyncProperty(
      fc.nat(4),
      fc.integer({ min: 4, max: 19 }),
      fc.nat(),
      async (start, size, seed) => {
        await check(
          built((m, p) => m.cast(m.slice(p(dtype, start + size + 1), 0, start, start + size), "f32")),
          seed,
        );
      },
    );
    await fc.assert(property, { numRuns: 25 });
  });
});
